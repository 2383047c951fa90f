"""RetrievalService on the wire: read the request, ask the service, write the response."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, TypeAlias
from uuid import UUID

import grpc

from bacmr.v1 import errors_pb2, language_pb2, retrieval_pb2, retrieval_pb2_grpc
from server.corpus.passage import CorpusFilter
from server.retrieval.answer import Answer, Conversation, Question, Rating, State
from server.retrieval.answering import AnswerService
from server.retrieval.conversations import ConversationService
from server.retrieval.events import (
    Citation,
    Completed,
    Delta,
    Ending,
    Event,
    Heartbeat,
    PassagesFound,
    Progress,
    Started,
    StepDegraded,
    Validation,
)
from server.retrieval.passage import Degraded, Passage, TermPair
from server.retrieval.searching import SearchService
from server.text.language import Language
from server.wallet.servicer import receipt_message

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

LANGUAGES = {
    Language.FRENCH: language_pb2.LANGUAGE_FRENCH,
    Language.ARABIC: language_pb2.LANGUAGE_ARABIC,
    Language.HASSANIYA: language_pb2.LANGUAGE_HASSANIYA,
    Language.OTHER: language_pb2.LANGUAGE_OTHER,
}
LANGUAGES_READ = {number: language for language, number in LANGUAGES.items()}
_ENDINGS = {
    Ending.STOP: retrieval_pb2.ASK_FINISH_REASON_STOP,
    Ending.LENGTH: retrieval_pb2.ASK_FINISH_REASON_LENGTH,
    Ending.CANCELLED: retrieval_pb2.ASK_FINISH_REASON_CANCELLED,
    Ending.INTERRUPTED: retrieval_pb2.ASK_FINISH_REASON_INTERRUPTED,
    Ending.QUOTED: retrieval_pb2.ASK_FINISH_REASON_QUOTED,
    Ending.FAILED: retrieval_pb2.ASK_FINISH_REASON_FAILED,
}
_STATES = {State.RUNNING: retrieval_pb2.ANSWER_STATE_RUNNING, State.COMPLETED: retrieval_pb2.ANSWER_STATE_COMPLETED}
_RATINGS = {Rating.HELPFUL: retrieval_pb2.RATING_HELPFUL, Rating.UNHELPFUL: retrieval_pb2.RATING_UNHELPFUL}
_RATINGS_READ = {number: rating for rating, number in _RATINGS.items()}


class RetrievalServicer(retrieval_pb2_grpc.RetrievalServiceServicer):
    """Search, ask, resume, cancel, and what is kept of it."""

    def __init__(self, searches: SearchService, answers: AnswerService, conversations: ConversationService) -> None:
        self._searches = searches
        self._answers = answers
        self._conversations = conversations

    async def Search(self, request: retrieval_pb2.SearchRequest, context: Context) -> retrieval_pb2.SearchResponse:
        """Find passages."""
        result = await self._searches.search(request.query, corpus_filter(request.filters), request.page_size)
        return retrieval_pb2.SearchResponse(
            passages=map(_passage, result.passages),
            detected_language=LANGUAGES[result.detected_language],
            degraded=map(_degraded, result.degraded),
            terms=map(_term, result.terms),
        )

    async def EstimateAsk(
        self, request: retrieval_pb2.EstimateAskRequest, context: Context
    ) -> retrieval_pb2.EstimateAskResponse:
        """Price a question."""
        question = Question(
            text=request.question,
            where=corpus_filter(request.filters),
            request_id=UUID(int=0),
            conversation_id=_optional_id(request.conversation_id),
        )
        estimate = await self._answers.estimate(question)
        return retrieval_pb2.EstimateAskResponse(
            min_tokens=estimate.min_tokens,
            likely_tokens=estimate.likely_tokens,
            max_tokens=estimate.max_tokens,
            affordable=estimate.affordable,
            cheaper_plan=estimate.cheaper_plan,
        )

    async def Ask(self, request: retrieval_pb2.AskRequest, context: Context) -> AsyncIterator[retrieval_pb2.AskEvent]:
        """Answer a question."""
        question = Question(
            text=request.question,
            where=corpus_filter(request.filters),
            request_id=UUID(request.request_id),
            conversation_id=_optional_id(request.conversation_id),
            answer_language=asked_language(request.answer_language),
        )
        answer_id = await self._answers.ask(question)
        async with aclosing(self._answers.follow(answer_id)) as events:
            async for event in events:
                yield _event(event)

    async def ResumeAsk(
        self, request: retrieval_pb2.ResumeAskRequest, context: Context
    ) -> AsyncIterator[retrieval_pb2.AskEvent]:
        """Replay and follow an answer."""
        async with aclosing(self._answers.follow(UUID(request.answer_id), request.after_sequence)) as events:
            async for event in events:
                yield _event(event)

    async def CancelAsk(
        self, request: retrieval_pb2.CancelAskRequest, context: Context
    ) -> retrieval_pb2.CancelAskResponse:
        """Stop an answer."""
        answer_id = UUID(request.answer_id)
        await self._answers.cancel(answer_id, _optional_id(request.request_id))
        return retrieval_pb2.CancelAskResponse(answer=_answer(await self._conversations.get_answer(answer_id)))

    async def GetAnswer(
        self, request: retrieval_pb2.GetAnswerRequest, context: Context
    ) -> retrieval_pb2.GetAnswerResponse:
        """Return a stored answer."""
        answer = await self._conversations.get_answer(UUID(request.answer_id))
        return retrieval_pb2.GetAnswerResponse(answer=_answer(answer))

    async def ListAnswers(
        self, request: retrieval_pb2.ListAnswersRequest, context: Context
    ) -> retrieval_pb2.ListAnswersResponse:
        """List answers."""
        page = await self._conversations.list_answers(
            _optional_id(request.conversation_id), request.page_size, request.page_token
        )
        return retrieval_pb2.ListAnswersResponse(answers=map(_answer, page.items), next_page_token=page.next_page_token)

    async def ListConversations(
        self, request: retrieval_pb2.ListConversationsRequest, context: Context
    ) -> retrieval_pb2.ListConversationsResponse:
        """List conversations."""
        page = await self._conversations.list_conversations(request.page_size, request.page_token)
        return retrieval_pb2.ListConversationsResponse(
            conversations=map(_conversation, page.items), next_page_token=page.next_page_token
        )

    async def DeleteConversation(
        self, request: retrieval_pb2.DeleteConversationRequest, context: Context
    ) -> retrieval_pb2.DeleteConversationResponse:
        """Delete a conversation."""
        await self._conversations.delete_conversation(UUID(request.conversation_id), _optional_id(request.request_id))
        return retrieval_pb2.DeleteConversationResponse()

    async def RateAnswer(
        self, request: retrieval_pb2.RateAnswerRequest, context: Context
    ) -> retrieval_pb2.RateAnswerResponse:
        """Rate an answer."""
        rating = _RATINGS_READ.get(request.rating)
        answer = await self._conversations.rate_answer(
            UUID(request.answer_id), rating, request.comment, _optional_id(request.request_id)
        )
        return retrieval_pb2.RateAnswerResponse(answer=_answer(answer))


def _optional_id(value: str) -> UUID | None:
    return UUID(value) if value else None


def asked_language(number: "language_pb2.Language.ValueType") -> Language | None:
    """Return the language to write in; None when none is asked for: nobody can be asked to write in any other."""
    language = LANGUAGES_READ.get(number)
    return None if language is Language.OTHER else language


def corpus_filter(filters: retrieval_pb2.CorpusFilter) -> CorpusFilter:
    """Return where to look."""
    return CorpusFilter(
        namespace=filters.namespace,
        subject=filters.subject,
        grade=filters.grade,
        language=LANGUAGES_READ.get(filters.language),
        document_ids=tuple(map(UUID, filters.document_ids)),
    )


def _passage(passage: Passage) -> retrieval_pb2.Passage:
    return retrieval_pb2.Passage(
        chunk_id=passage.chunk_id,
        document_id=str(passage.document_id),
        document_title=passage.document_title,
        page=passage.page,
        text=passage.text,
        score=passage.score,
        language=LANGUAGES[passage.language],
        start=passage.start,
        end=passage.end,
    )


def _degraded(degraded: Degraded) -> retrieval_pb2.Degraded:
    return retrieval_pb2.Degraded(step=degraded.step.value, reason=degraded.reason)


def _term(pair: TermPair) -> retrieval_pb2.TermPair:
    return retrieval_pb2.TermPair(term=pair.term, counterpart=pair.counterpart, language=LANGUAGES[pair.language])


def _citation(citation: Citation) -> retrieval_pb2.Citation:
    return retrieval_pb2.Citation(
        number=citation.number,
        chunk_id=citation.chunk_id,
        document_id=str(citation.document_id),
        document_title=citation.document_title,
        page=citation.page,
        quote=citation.quote,
        start=citation.start,
        end=citation.end,
    )


def _validation(validation: Validation) -> retrieval_pb2.AnswerValidation:
    return retrieval_pb2.AnswerValidation(
        supported_sentences=validation.supported_sentences,
        unsupported_sentences=validation.unsupported_sentences,
        dropped_citations=validation.dropped_citations,
    )


def _event(event: Event) -> retrieval_pb2.AskEvent:
    message = retrieval_pb2.AskEvent(sequence=event.sequence)
    match event.payload:
        case Delta(text=text):
            message.delta.text = text
        case Started() as started:
            message.started.answer_id = str(started.answer_id)
            message.started.reservation_id = str(started.reservation_id)
            message.started.conversation_id = str(started.conversation_id)
            message.started.max_charge_tokens = started.max_charge_tokens
            message.started.detected_language = LANGUAGES[started.detected_language]
        case Progress(stage=stage):
            message.progress.stage = stage.value
        case PassagesFound(passages=passages, terms=terms):
            message.passages.passages.extend(map(_passage, passages))
            message.passages.terms.extend(map(_term, terms))
        case StepDegraded(degraded=degraded):
            message.degraded.CopyFrom(_degraded(degraded))
        case Heartbeat():
            message.heartbeat.SetInParent()
        case Completed() as completed:
            message.completed.CopyFrom(_completed(completed))
    return message


def _completed(completed: Completed) -> retrieval_pb2.AskCompleted:
    return retrieval_pb2.AskCompleted(
        finish_reason=_ENDINGS[completed.ending],
        citations=map(_citation, completed.citations),
        validation=_validation(completed.validation),
        receipt=receipt_message(completed.receipt) if completed.receipt else None,
        model=completed.model,
    )


def _answer(answer: Answer) -> retrieval_pb2.Answer:
    message = retrieval_pb2.Answer(
        id=str(answer.id),
        conversation_id=str(answer.conversation_id),
        question=answer.question,
        text=answer.content,
        state=_STATES[answer.state],
        finish_reason=_ENDINGS[answer.ending] if answer.ending else retrieval_pb2.ASK_FINISH_REASON_UNSPECIFIED,
        citations=map(_citation, answer.citations),
        validation=_validation(answer.validation) if answer.validation else None,
        receipt=receipt_message(answer.receipt) if answer.receipt else None,
        model=answer.model,
        detected_language=LANGUAGES[answer.detected_language],
        rating=_RATINGS[answer.rating] if answer.rating else retrieval_pb2.RATING_UNSPECIFIED,
        last_sequence=answer.last_sequence,
        failure_reason=errors_pb2.ErrorReason.Value(f"ERROR_REASON_{answer.refusal or 'UNSPECIFIED'}"),
    )
    message.created_at.FromDatetime(answer.created_at)
    return message


def _conversation(conversation: Conversation) -> retrieval_pb2.Conversation:
    message = retrieval_pb2.Conversation(
        id=str(conversation.id), title=conversation.title, answer_count=conversation.answer_count
    )
    message.created_at.FromDatetime(conversation.created_at)
    message.updated_at.FromDatetime(conversation.updated_at)
    return message
