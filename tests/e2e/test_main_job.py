"""The main job over a real channel: sign up, ingest, ask in two languages, take a quiz, prove the money."""

import re
import subprocess
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio
from google.protobuf import message_factory

from bacmr.client import BacmrClient, request_id
from bacmr.refusals import refusal
from bacmr.v1 import admin_pb2, auth_pb2, ingestion_pb2, language_pb2, quiz_pb2, retrieval_pb2, wallet_pb2
from tests.e2e.conftest import OPERATOR, ROOT, command, settings

SAMPLES = ROOT / "samples"
CHANGING_WHO_CALLS = ("SignOut", "DeleteMe", "SignIn", "SignUp", "RefreshSession")
METHODS = [
    method
    for file in (admin_pb2, auth_pb2, ingestion_pb2, quiz_pb2, retrieval_pb2, wallet_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if method.name not in CHANGING_WHO_CALLS
]
FRENCH = "Quel est le principe d'inertie énoncé par Newton ?"
ARABIC = "ما هي الحقيقة عند أرسطو؟"
HASSANIYA = "شنهو قانون نيوتن الثاني، وكيفاش انطبگوه؟"
TYPED = "chenhu 9anun newton ethani w kivach ntab9uh?"
"""Hassaniya as it is typed on a phone."""


async def ingest(operator: BacmrClient, path: Path, content_type: str = "application/pdf") -> ingestion_pb2.Job:
    """Upload a file and wait until its job has ended."""
    document = await operator.upload(path, content_type)
    created = await operator.ingestion.CreateIngestionJob(
        ingestion_pb2.CreateIngestionJobRequest(
            document_id=document.id, namespace="grade-12", subject="test", grade="12", request_id=request_id()
        )
    )
    job = created.job
    async for event in operator.ingestion.WatchIngestionJob(ingestion_pb2.WatchIngestionJobRequest(job_id=job.id)):
        job = event.job
    return job


@pytest_asyncio.fixture(scope="module")
async def operator(server):
    async with BacmrClient(server.target) as client:
        await client.sign_in(OPERATOR, server.password)
        yield client


@pytest_asyncio.fixture(scope="module")
async def library(operator):
    """Two ingested documents, one in each language."""
    return [await ingest(operator, SAMPLES / name) for name in ("physique_newton.pdf", "falsafa_haqiqa.pdf")]


@pytest_asyncio.fixture
async def student(server, library):
    async with BacmrClient(server.target) as client:
        await client.sign_up(f"{uuid4()}@example.org", "a long enough password")
        yield client


async def balance(client: BacmrClient) -> int:
    return (await client.wallet.GetBalance(wallet_pb2.GetBalanceRequest())).available_tokens


async def answer(client: BacmrClient, question: str, **more) -> list[retrieval_pb2.AskEvent]:
    request = retrieval_pb2.AskRequest(request_id=more.pop("request_id", request_id()), **more)
    return [event async for event in client.ask(question, request=request)]


async def test_both_documents_become_searchable(library):
    assert [job.state for job in library] == [ingestion_pb2.JOB_STATE_READY] * 2
    assert all(job.chunks_done == job.chunks_total > 0 for job in library)


@pytest.mark.parametrize(
    ("question", "file", "language"),
    [
        (FRENCH, "physique_newton.md", "LANGUAGE_FRENCH"),
        (ARABIC, "falsafa_haqiqa.md", "LANGUAGE_ARABIC"),
        (HASSANIYA, "physique_newton.md", "LANGUAGE_HASSANIYA"),
        (TYPED, "physique_newton.md", "LANGUAGE_HASSANIYA"),
    ],
)
async def test_an_answer_streams_with_citations_that_stand_in_the_document(student, question, file, language):
    events = await answer(student, question)
    completed = events[-1].completed
    text = "".join(event.delta.text for event in events)
    source = re.sub(r"\W+", "", (SAMPLES / file).read_text())
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert language_pb2.Language.Name(events[0].started.detected_language) == language
    assert re.search(r"\[\d\]", text)
    assert completed.citations
    assert all(re.sub(r"\W+", "", citation.quote) in source for citation in completed.citations)


async def test_an_answer_is_charged_exactly_once_and_within_its_quote(student):
    before, asked = await balance(student), request_id()
    first = await answer(student, FRENCH, request_id=asked)
    again = await answer(student, FRENCH, request_id=asked)
    receipt = first[-1].completed.receipt
    assert first == again
    assert 0 < receipt.charged_tokens <= first[0].started.max_charge_tokens
    assert await balance(student) == before - receipt.charged_tokens


async def test_the_ledger_of_a_student_verifies_and_all_money_reconciles(student, operator):
    await answer(student, FRENCH)
    report = await student.wallet.VerifyLedger(wallet_pb2.VerifyLedgerRequest())
    reconciled = await operator.admin.ReconcileWallets(admin_pb2.ReconcileWalletsRequest())
    assert report.ok
    assert reconciled.ok
    assert "charges_match_usage" in {check.name for check in reconciled.checks}


async def test_a_quiz_is_made_from_the_same_pages_and_graded_with_its_evidence(student):
    request = quiz_pb2.GenerateQuizRequest(topic="les lois de Newton", question_count=2, request_id=request_id())
    events = [event async for event in student.quiz.GenerateQuiz(request)]
    quiz = events[-1].completed.quiz
    started = await student.quiz.StartAttempt(quiz_pb2.StartAttemptRequest(quiz_id=quiz.id, request_id=request_id()))
    graded = await student.quiz.SubmitAttempt(
        quiz_pb2.SubmitAttemptRequest(attempt_id=started.attempt.id, request_id=request_id())
    )
    source = re.sub(r"\W+", "", (SAMPLES / "physique_newton.md").read_text())
    assert len(quiz.questions) == 2
    assert not any(question.HasField("key") for question in started.questions)
    assert all(re.sub(r"\W+", "", r.question.key.evidence.quote) in source for r in graded.results)


async def test_how_a_group_fared_with_a_quiz_is_told_from_five_people_on(server, student, operator):
    made = quiz_pb2.GenerateQuizRequest(topic="les lois de Newton", question_count=2, request_id=request_id())
    quiz = [event async for event in student.quiz.GenerateQuiz(made)][-1].completed.quiz
    await operator.quiz.PublishQuiz(quiz_pb2.PublishQuizRequest(quiz_id=quiz.id, published=True))
    wanted, counts = quiz_pb2.GetQuizStatisticsRequest(quiz_id=quiz.id), []
    for _ in range(5):
        async with BacmrClient(server.target) as other:
            await other.sign_up(f"{uuid4()}@example.org", "a long enough password")
            start = quiz_pb2.StartAttemptRequest(quiz_id=quiz.id, request_id=request_id())
            attempt = (await other.quiz.StartAttempt(start)).attempt
            await other.quiz.SubmitAttempt(
                quiz_pb2.SubmitAttemptRequest(attempt_id=attempt.id, request_id=request_id())
            )
        counts.append((found := await operator.quiz.GetQuizStatistics(wanted)).people_count)
    assert counts == [0, 0, 0, 0, 5]
    assert [(each.question.number, each.facility, each.unanswered_count) for each in found.questions] == [
        (1, 0.0, 5),
        (2, 0.0, 5),
    ]
    assert all(each.question.key.evidence.quote for each in found.questions)
    assert not any(each.HasField("discrimination") for each in found.questions)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await student.quiz.GetQuizStatistics(wanted)
    assert refusal(error.value).reason == "ROLE_NOT_ALLOWED"


async def test_an_operator_sees_the_whole_story_of_a_question(student, operator):
    asked = request_id()
    await answer(student, FRENCH, request_id=asked)
    story = await operator.admin.GetTrace(admin_pb2.GetTraceRequest(request_id=asked))
    me = (await student.auth.GetMe(auth_pb2.GetMeRequest())).user
    steps = [step.name for step in story.steps]
    status = await operator.admin.GetStatus(admin_pb2.GetStatusRequest())
    assert "milvus_upsert" in {breaker.service for breaker in status.breakers}
    assert story.entries
    assert (story.user_id, story.method) == (me.id, "Ask")
    assert story.started_at.ToSeconds() >= me.created_at.ToSeconds()
    assert steps.index("question") < steps.index("search") < steps.index("model_calls") < steps.index("receipt")


async def test_an_operator_sees_how_long_the_steps_of_a_quiz_took(student, operator):
    asked = request_id()
    request = quiz_pb2.GenerateQuizRequest(topic="les lois de Newton", question_count=2, request_id=asked)
    async for _ in student.quiz.GenerateQuiz(request):
        pass
    story = await operator.admin.GetTrace(admin_pb2.GetTraceRequest(request_id=asked))
    steps = {step.name: step for step in story.steps}
    lasting = [steps[name] for name in ("price", "search", "prompt", "model_calls", "receipt")]
    assert (story.method, bool(story.entries)) == ("GenerateQuiz", True)
    assert all(step.took.ToNanoseconds() > 0 for step in lasting)
    assert [s.started_after.ToNanoseconds() for s in lasting] == sorted(
        s.started_after.ToNanoseconds() for s in lasting
    )


async def test_a_broken_pdf_ends_in_a_failed_job_with_a_reason(operator, tmp_path):
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7\n" + bytes(range(256)) * 20)
    job = await ingest(operator, broken)
    assert job.state == ingestion_pb2.JOB_STATE_FAILED
    assert job.failure_reason


@pytest.mark.parametrize("question", ["", "   \n"])
async def test_an_empty_question_is_refused_before_anything_is_held(student, question):
    before = await balance(student)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await answer(student, question)
    said = refusal(error.value)
    assert (said.code, said.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert said.violations[0][0] == "question"
    assert said.request_id
    assert await balance(student) == before


async def test_a_student_can_neither_ingest_nor_administer(student):
    for call in (
        student.admin.ListUsers(admin_pb2.ListUsersRequest()),
        student.ingestion.ListIngestionJobs(ingestion_pb2.ListIngestionJobsRequest()),
        student.wallet.Reserve(
            wallet_pb2.ReserveRequest(user_id=str(uuid4()), estimate_tokens=1, purpose="test", request_id=request_id())
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call
        assert refusal(error.value).reason == "ROLE_NOT_ALLOWED"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
async def test_every_method_of_the_contract_is_served(operator, method):
    stub = getattr(operator, method.containing_service.name.removesuffix("Service").lower())
    request = message_factory.GetMessageClass(method.input_type)()
    call = getattr(stub, method.name)(iter([request]) if method.client_streaming else request)
    with suppress(grpc.aio.AioRpcError):
        await (call.read() if method.server_streaming else call)
    assert await call.code() is not grpc.StatusCode.UNIMPLEMENTED


def test_the_command_line_ingests_and_asks(server, library, tmp_path):
    lesson = tmp_path / "maths.md"
    lesson.write_text((SAMPLES / "maths_suites.md").read_text())
    login = {"BACMR_TARGET": server.target, "BACMR_EMAIL": OPERATOR, "BACMR_PASSWORD": server.password}
    environment = settings(tmp_path, **login)

    def run(*words):
        return subprocess.run(command(*words), env=environment, capture_output=True, text=True, timeout=90)

    ingested = run("ingest", str(lesson), "--namespace", "grade-12-math", "--subject", "maths")
    asked = run("ask", "Qu'est-ce qu'une suite arithmétique ?", "--namespace", "grade-12-math")
    unanswered = run("ask", "Comment faire du café turc ?", "--namespace", "grade-12-math")
    wrong = subprocess.run(
        command("ask", "?"), env=environment | {"BACMR_PASSWORD": "wrong"}, capture_output=True, text=True, timeout=90
    )
    assert ingested.returncode == 0, ingested.stderr
    assert asked.returncode == 0, asked.stderr
    assert "[1]" in asked.stdout
    assert unanswered.returncode == 2
    assert "NO_PASSAGES" in unanswered.stderr
    assert "charged 0" in unanswered.stdout
    assert wrong.returncode == 2
    assert "WRONG_CREDENTIALS" in wrong.stderr
