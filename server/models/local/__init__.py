"""The local provider: embeds, reranks, answers and writes quizzes offline, by the words of the texts alone."""
