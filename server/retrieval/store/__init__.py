"""SQL of the retrieval room: answers in the making, and what is kept of them."""

from server.retrieval.store.answers import AnswerStore, Begun, Ended
from server.retrieval.store.conversations import ConversationStore
from server.retrieval.store.traces import TraceStore
from server.retrieval.store.usage import UsageStore

__all__ = ["AnswerStore", "Begun", "ConversationStore", "Ended", "TraceStore", "UsageStore"]
