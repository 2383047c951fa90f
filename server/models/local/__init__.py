"""The local provider: embeds, reranks, answers and writes quizzes offline, by the words of the texts alone."""

from server.models.local.embedder import LocalEmbedder
from server.models.local.tutor import LocalTutor

__all__ = ["LocalEmbedder", "LocalTutor"]
