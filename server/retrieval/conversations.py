"""What a student keeps: answers, conversations and verdicts on answers."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from uuid import UUID

from server import caller
from server.database import pages
from server.database.once import Once
from server.database.pages import Page
from server.database.pool import Connection, Database
from server.refusal import NotFound, NotSignedIn
from server.retrieval.answer import Answer, Conversation, Rating
from server.retrieval.store import ConversationStore, TraceStore
from server.retrieval.trace import Told


class ConversationService:
    """Reads and keeps the calling user's answers; other people's are NotFound, whatever the caller's role."""

    def __init__(self, database: Database, store: ConversationStore, stop: Callable[[UUID], Awaitable[None]]) -> None:
        """`stop` ends a running answer and waits until it is settled."""
        self._database = database
        self._once = Once(database)
        self._store = store
        self._stop = stop

    async def get_answer(self, answer_id: UUID) -> Answer:
        """Return an answer as it stands, with its text so far."""
        async with self._database.transaction() as connection:
            answer = await self._store.answer(connection, _user_id(), answer_id)
        if answer is None:
            raise NotFound
        return answer

    async def list_answers(self, conversation_id: UUID | None, size: int, token: str) -> Page[Answer]:
        """Return answers, newest first, of one conversation or of all."""
        position = pages.position(token, [conversation_id], datetime, UUID)
        size = pages.page_size(size)
        async with self._database.transaction() as connection:
            rows = await self._store.answers(connection, _user_id(), conversation_id, position, size + 1)
        return pages.cut(rows, size, [conversation_id], lambda answer: (answer.created_at, answer.id))

    async def list_conversations(self, size: int, token: str) -> Page[Conversation]:
        """Return conversations, last used first."""
        position = pages.position(token, ["conversations"], datetime, UUID)
        size = pages.page_size(size)
        async with self._database.transaction() as connection:
            rows = await self._store.conversations(connection, _user_id(), position, size + 1)
        return pages.cut(rows, size, ["conversations"], lambda thread: (thread.updated_at, thread.id))

    async def delete_conversation(self, conversation_id: UUID, request_id: UUID | None = None) -> None:
        """Delete a conversation with its questions and answers; running ones are stopped and settled first.

        Raises NotFound, RequestIdReused.
        """
        user_id, asked = _user_id(), ("DeleteConversation", request_id, conversation_id)
        if await self._once.ran(*asked):
            return
        async with self._database.transaction() as connection:
            running = await self._store.running_in(connection, user_id, conversation_id)
        for answer_id in running:
            await self._stop(answer_id)

        async def delete(connection: Connection) -> None:
            if not await self._store.delete_conversation(connection, user_id, conversation_id):
                raise NotFound

        await self._once.run(*asked, type(None), delete)

    async def rate_answer(
        self, answer_id: UUID, rating: Rating | None, comment: str, request_id: UUID | None = None
    ) -> Answer:
        """Store a verdict on an answer (None takes it back) and return the answer. Raises NotFound, RequestIdReused."""

        async def rate(connection: Connection) -> Answer:
            await self._store.rate(connection, _user_id(), answer_id, rating, comment)
            answer = await self._store.answer(connection, _user_id(), answer_id)
            if answer is None:
                raise NotFound
            return answer

        return await self._once.run("RateAnswer", request_id, (answer_id, rating, comment), Answer, rate)

    async def erase(self, connection: Connection, user_id: UUID) -> None:
        """Delete all that a person asked and was answered, in the transaction that erases the account."""
        await self._store.erase(connection, user_id)

    async def trace(self, request_id: UUID) -> Told:
        """Return the story of a request by its own id or its call's correlation id, for operators."""
        async with self._database.transaction() as connection:
            story = await TraceStore().story(connection, request_id)
        if story is None:
            raise NotFound
        return story


def _user_id() -> UUID:
    user_id = caller.current().user_id
    if user_id is None:
        raise NotSignedIn
    return user_id
