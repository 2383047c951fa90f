"""The local provider: embeds, reranks, answers and writes quizzes without a network, by the words of the texts alone."""
