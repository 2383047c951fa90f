"""QuizService on the wire: read the request, ask the service, write the response."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from bacmr.v1 import quiz_pb2, quiz_pb2_grpc
from server.models.port import QuestionKind
from server.quiz import attempt as attempts
from server.quiz import events
from server.quiz.export import Format
from server.quiz.grading import Answer, Result
from server.quiz.making import QuizRequest
from server.quiz.question import Difficulty, Key, Question, Quiz
from server.quiz.reviews import Recall
from server.quiz.service import QuizService
from server.retrieval.servicer import LANGUAGES, asked_language, corpus_filter
from server.wallet.servicer import receipt_message

DEFAULT_QUESTIONS = 5

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_KINDS = {kind: quiz_pb2.QuestionKind.Value(f"QUESTION_KIND_{kind.name}") for kind in QuestionKind}
_KIND_OF = {value: key for key, value in _KINDS.items()}
_DIFFICULTIES = {level: quiz_pb2.Difficulty.Value(f"DIFFICULTY_{level.name}") for level in Difficulty}
_DIFFICULTY_OF = {value: key for key, value in _DIFFICULTIES.items()}
_FORMAT_OF = {quiz_pb2.QuizFormat.Value(f"QUIZ_FORMAT_{file.name}"): file for file in Format}
_RECALL_OF = {quiz_pb2.Recall.Value(f"RECALL_{recall.name}"): recall for recall in Recall}


class QuizServicer(quiz_pb2_grpc.QuizServiceServicer):
    """Translates between protobuf and QuizService."""

    def __init__(self, service: QuizService) -> None:
        self._service = service

    async def GenerateQuiz(
        self, request: quiz_pb2.GenerateQuizRequest, context: Context
    ) -> AsyncIterator[quiz_pb2.QuizEvent]:
        """Stream a quiz as it is made."""
        quiz_id = None
        async for sequence, event in self._service.generate(_request(request)):
            quiz_id = event.quiz_id if isinstance(event, events.Started) else quiz_id
            message = _event(sequence, event)
            if isinstance(event, events.Completed) and quiz_id:
                message.completed.quiz.CopyFrom(_quiz(await self._service.quiz(quiz_id)))
            yield message

    async def GetQuiz(self, request: quiz_pb2.GetQuizRequest, context: Context) -> quiz_pb2.GetQuizResponse:
        """Return a quiz."""
        return quiz_pb2.GetQuizResponse(quiz=_quiz(await self._service.quiz(UUID(request.quiz_id))))

    async def ListQuizzes(self, request: quiz_pb2.ListQuizzesRequest, context: Context) -> quiz_pb2.ListQuizzesResponse:
        """List quizzes."""
        page = await self._service.quizzes(
            request.subject, mine=request.mine, size=request.page_size, page_token=request.page_token
        )
        return quiz_pb2.ListQuizzesResponse(
            quizzes=[_quiz(quiz) for quiz in page.items], next_page_token=page.next_page_token
        )

    async def DeleteQuiz(self, request: quiz_pb2.DeleteQuizRequest, context: Context) -> quiz_pb2.DeleteQuizResponse:
        """Delete a quiz."""
        await self._service.delete(UUID(request.quiz_id), _request_id(request))
        return quiz_pb2.DeleteQuizResponse()

    async def PublishQuiz(self, request: quiz_pb2.PublishQuizRequest, context: Context) -> quiz_pb2.PublishQuizResponse:
        """Publish a quiz or take it back."""
        quiz = await self._service.publish(
            UUID(request.quiz_id), published=request.published, request_id=_request_id(request)
        )
        return quiz_pb2.PublishQuizResponse(quiz=_quiz(quiz))

    async def StartAttempt(
        self, request: quiz_pb2.StartAttemptRequest, context: Context
    ) -> quiz_pb2.StartAttemptResponse:
        """Start an attempt."""
        attempt, questions = await self._service.start_attempt(UUID(request.quiz_id), UUID(request.request_id))
        return quiz_pb2.StartAttemptResponse(
            attempt=_attempt(attempt), questions=[_question(question) for question in questions]
        )

    async def SubmitAttempt(
        self, request: quiz_pb2.SubmitAttemptRequest, context: Context
    ) -> quiz_pb2.SubmitAttemptResponse:
        """Grade an attempt."""
        answers = [
            Answer(UUID(answer.question_id), tuple(answer.chosen_options), answer.text) for answer in request.answers
        ]
        graded = await self._service.submit_attempt(UUID(request.attempt_id), answers, UUID(request.request_id))
        return quiz_pb2.SubmitAttemptResponse(
            attempt=_attempt(graded.attempt), results=[_result(result) for result in graded.results]
        )

    async def ListAttempts(
        self, request: quiz_pb2.ListAttemptsRequest, context: Context
    ) -> quiz_pb2.ListAttemptsResponse:
        """List attempts."""
        quiz_id = UUID(request.quiz_id) if request.quiz_id else None
        page = await self._service.attempts(quiz_id, size=request.page_size, page_token=request.page_token)
        return quiz_pb2.ListAttemptsResponse(
            attempts=[_attempt(attempt) for attempt in page.items], next_page_token=page.next_page_token
        )

    async def GetQuizStatistics(
        self, request: quiz_pb2.GetQuizStatisticsRequest, context: Context
    ) -> quiz_pb2.GetQuizStatisticsResponse:
        """Tell how people fared with a quiz."""
        found = await self._service.statistics(UUID(request.quiz_id))
        return quiz_pb2.GetQuizStatisticsResponse(
            people_count=found.people,
            mean_score=found.mean_score,
            questions=[
                quiz_pb2.QuestionStatistics(
                    question=_question(each.question),
                    facility=each.facility,
                    discrimination=each.discrimination,
                    option_counts=each.chosen,
                    unanswered_count=each.unanswered,
                )
                for each in found.questions
            ],
        )

    async def GetProgress(self, request: quiz_pb2.GetProgressRequest, context: Context) -> quiz_pb2.GetProgressResponse:
        """Return mastery by topic."""
        topics = await self._service.progress(request.subject)
        return quiz_pb2.GetProgressResponse(
            topics=[
                quiz_pb2.TopicProgress(
                    subject=topic.subject,
                    topic=topic.topic,
                    answered=topic.answered,
                    correct=topic.correct,
                    mastery=topic.mastery,
                )
                for topic in topics
            ]
        )

    async def ListDueReviews(
        self, request: quiz_pb2.ListDueReviewsRequest, context: Context
    ) -> quiz_pb2.ListDueReviewsResponse:
        """List due reviews."""
        page = await self._service.due_reviews(size=request.page_size, page_token=request.page_token)
        return quiz_pb2.ListDueReviewsResponse(
            reviews=[_review(due) for due in page.items], next_page_token=page.next_page_token
        )

    async def ReviewQuestion(
        self, request: quiz_pb2.ReviewQuestionRequest, context: Context
    ) -> quiz_pb2.ReviewQuestionResponse:
        """Record a review."""
        due = await self._service.review_question(
            UUID(request.question_id), _RECALL_OF[request.recall], UUID(request.request_id)
        )
        return quiz_pb2.ReviewQuestionResponse(review=_review(due))

    async def ExportQuiz(self, request: quiz_pb2.ExportQuizRequest, context: Context) -> quiz_pb2.ExportQuizResponse:
        """Write a quiz as a file."""
        file = await self._service.export(UUID(request.quiz_id), _FORMAT_OF[request.format])
        return quiz_pb2.ExportQuizResponse(filename=file.filename, content_type=file.content_type, content=file.content)


def _request_id(request: quiz_pb2.DeleteQuizRequest | quiz_pb2.PublishQuizRequest) -> UUID | None:
    return UUID(request.request_id) if request.request_id else None


def _request(request: quiz_pb2.GenerateQuizRequest) -> QuizRequest:
    return QuizRequest(
        topic=request.topic,
        where=corpus_filter(request.filters),
        chunk_ids=tuple(request.chunk_ids),
        question_count=request.question_count or DEFAULT_QUESTIONS,
        kinds=tuple(_KIND_OF[kind] for kind in request.kinds),
        difficulty=_DIFFICULTY_OF.get(request.difficulty, Difficulty.MEDIUM),
        language=asked_language(request.language),
        request_id=UUID(request.request_id),
    )


def _event(sequence: int, event: events.Event) -> quiz_pb2.QuizEvent:
    message = quiz_pb2.QuizEvent(sequence=sequence)
    match event:
        case events.Started():
            message.started.quiz_id = str(event.quiz_id)
            message.started.reservation_id = str(event.reservation_id)
            message.started.max_charge_tokens = event.max_charge_tokens
        case events.Progress():
            message.progress.stage = event.stage
        case events.Asked():
            message.question.CopyFrom(_question(event.question))
        case events.StepDegraded():
            message.degraded.step, message.degraded.reason = event.step, event.reason
        case events.Heartbeat():
            message.heartbeat.SetInParent()
        case events.Completed():
            message.completed.dropped_questions = event.dropped_questions
            message.completed.model = event.model
            if event.receipt:
                message.completed.receipt.CopyFrom(receipt_message(event.receipt))
    return message


def _quiz(quiz: Quiz) -> quiz_pb2.Quiz:
    return quiz_pb2.Quiz(
        id=str(quiz.id),
        title=quiz.title,
        language=LANGUAGES[quiz.language],
        difficulty=_DIFFICULTIES[quiz.difficulty],
        subject=quiz.subject,
        owner_id=str(quiz.owner_id),
        published=quiz.published,
        questions=[_question(question) for question in quiz.questions],
        created_at=_time(quiz.created_at),
    )


def _question(question: Question) -> quiz_pb2.Question:
    return quiz_pb2.Question(
        id=str(question.id),
        number=question.number,
        kind=_KINDS[question.kind],
        stem=question.stem,
        options=question.options,
        topic=question.topic,
        key=_key(question.key) if question.key else None,
    )


def _key(key: Key) -> quiz_pb2.AnswerKey:
    evidence = key.evidence
    return quiz_pb2.AnswerKey(
        correct_options=key.correct,
        accepted_texts=key.accepted,
        explanation=key.explanation,
        evidence=quiz_pb2.Evidence(
            chunk_id=evidence.chunk_id,
            document_id=str(evidence.document_id),
            document_title=evidence.document_title,
            page=evidence.page,
            quote=evidence.quote,
            start=evidence.start,
            end=evidence.end,
        ),
    )


def _attempt(attempt: attempts.Attempt) -> quiz_pb2.Attempt:
    return quiz_pb2.Attempt(
        id=str(attempt.id),
        quiz_id=str(attempt.quiz_id),
        quiz_title=attempt.quiz_title,
        started_at=_time(attempt.started_at),
        submitted_at=_time(attempt.submitted_at) if attempt.submitted_at else None,
        score=attempt.score or 0.0,
        max_score=attempt.max_score,
    )


def _result(result: Result) -> quiz_pb2.QuestionResult:
    return quiz_pb2.QuestionResult(
        question=_question(result.question),
        correct=result.correct,
        score=result.score,
        answer=quiz_pb2.QuestionAnswer(
            question_id=str(result.answer.question_id), chosen_options=result.answer.chosen, text=result.answer.text
        ),
    )


def _review(due: attempts.DueReview) -> quiz_pb2.Review:
    return quiz_pb2.Review(
        question=_question(due.question),
        due_at=_time(due.memory.due_at),
        stability_days=due.memory.stability_days,
    )


def _time(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
