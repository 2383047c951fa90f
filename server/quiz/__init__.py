"""Quizzes from the corpus, attempts, mastery and spaced reviews."""
