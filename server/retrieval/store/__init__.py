"""SQL of the retrieval room: answers in the making, and what is kept of them."""

from server.retrieval.store.answers import AnswerStore
from server.retrieval.store.conversations import ConversationStore

__all__ = ["AnswerStore", "ConversationStore"]
