"""`bacmr demo`: the whole main job on embedded stores, told step by step. A second run reuses what the first made."""

import os
import secrets
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from rich.console import Console
from rich.table import Table

from bacmr.client import BacmrClient, request_id
from bacmr.v1 import ingestion_pb2, quiz_pb2, wallet_pb2
from server.app.application import App
from server.app.failure import StartupError
from server.cli.ask import print_answer, receipt_line
from server.cli.ingest import ingest_file, progress_bars
from server.config import load

SAMPLES = Path(__file__).parents[2] / "samples"
OPERATOR = "operator@demo.bacmr.example"
NAMESPACE = "demo"
QUESTIONS = (
    "Quel est le principe d'inertie énoncé par Newton ?",
    "ما هي الحقيقة عند الفلاسفة؟",
)
QUIZ_TOPIC = "la photosynthèse"
QUIZ_QUESTIONS = 3

EMBEDDED: dict[str, str] = dict.fromkeys(
    ("database_url", "database_owner_url", "milvus_uri", "redis_url", "blob_url"), ""
)
"""Whatever stores the settings name, the demo writes into none of them."""

PLAIN_WIDTH = 120
"""Columns where the output is no terminal."""

console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)


@dataclass(frozen=True, slots=True)
class Lesson:
    """A sample document and where it belongs."""

    file: str
    title: str
    subject: str


LESSONS = (
    Lesson("maths_suites.pdf", "Mathématiques : les suites", "maths"),
    Lesson("physique_newton.pdf", "Physique : les lois de Newton", "physics"),
    Lesson("biologie_photosynthese.pdf", "Biologie : la photosynthèse", "biology"),
    Lesson("falsafa_haqiqa.pdf", "الفلسفة: الحقيقة", "philosophy"),
    Lesson("tarikh_mauritania.pdf", "التاريخ: موريتانيا", "history"),
    Lesson("hassaniya_as2ila.pdf", "أسئلة بالحسانية", "questions"),
    Lesson("hassaniya_as2ila_latin.pdf", "As'ila b Hassaniya", "questions"),
)


async def demo(samples: Path) -> None:
    """Start everything, do the main job as its people would, stop everything."""
    began = time.monotonic()
    _title("Starting PostgreSQL, Milvus Lite and the server")
    folder = load().data_dir / "demo"
    settings = load(
        data_dir=folder,
        **EMBEDDED,
        grpc_listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
        bootstrap_admin_email=OPERATOR,
        bootstrap_admin_password=_operator_password(folder),
        log_level="error",
    )
    app = App(settings)
    try:
        await app.start()
        console.print(f"{app.greeting()} ({time.monotonic() - began:.1f} s)")
        async with BacmrClient(app.grpc_address) as operator:
            await operator.sign_in(OPERATOR, settings.bootstrap_admin_password.get_secret_value())
            await _ingest(operator, samples)
        async with BacmrClient(app.grpc_address) as student:
            await _study(student)
    finally:
        await app.stop()
    console.print(f"\nDone in {time.monotonic() - began:.1f} s. `make run` keeps a server up.")


async def _ingest(operator: BacmrClient, samples: Path) -> None:
    _title("An operator adds lessons")
    known = await operator.ingestion.ListDocuments(
        ingestion_pb2.ListDocumentsRequest(namespace=NAMESPACE, page_size=200)
    )
    ready = {document.filename for document in known.documents if document.chunk_count}
    with progress_bars(console) as bars:
        for lesson in LESSONS:
            if lesson.file in ready:
                bars.add_task(lesson.file, total=1, completed=1, state="already in the library")
                continue
            job = await ingest_file(
                operator, bars, samples / lesson.file, NAMESPACE, lesson.subject, "12", title=lesson.title
            )
            if job.state != ingestion_pb2.JOB_STATE_READY:
                raise StartupError(f"{lesson.file} could not be ingested: {job.failure_reason}")


async def _study(student: BacmrClient) -> None:
    _title("A student signs up")
    user = await student.sign_up(f"student-{uuid4().hex[:8]}@demo.bacmr.example", secrets.token_urlsafe(16))
    balance = await student.wallet.GetBalance(wallet_pb2.GetBalanceRequest())
    console.print(f"{user.email} has {balance.available_tokens} tokens, a welcome grant.")
    for question in QUESTIONS:
        _title(question)
        await print_answer(student, console, question, NAMESPACE)
    await _quiz(student)
    await _ledger(student)


async def _quiz(student: BacmrClient) -> None:
    _title(f"A quiz on {QUIZ_TOPIC}")
    request = quiz_pb2.GenerateQuizRequest(topic=QUIZ_TOPIC, question_count=QUIZ_QUESTIONS, request_id=request_id())
    request.filters.namespace = NAMESPACE
    quiz = quiz_pb2.Quiz()
    async for event in student.quiz.GenerateQuiz(request):
        if event.HasField("question"):
            console.print(f"{event.question.number}. {event.question.stem}", markup=False)
            for place, option in enumerate(event.question.options):
                console.print(f"   {chr(ord('a') + place)}) {option}", markup=False)
        elif event.HasField("completed"):
            quiz = event.completed.quiz
            console.print(f"[dim]{receipt_line(event.completed.receipt)}[/dim]")
    started = await student.quiz.StartAttempt(quiz_pb2.StartAttemptRequest(quiz_id=quiz.id, request_id=request_id()))
    graded = await student.quiz.SubmitAttempt(
        quiz_pb2.SubmitAttemptRequest(
            attempt_id=started.attempt.id,
            answers=[quiz_pb2.QuestionAnswer(question_id=item.id, chosen_options=[0]) for item in started.questions],
            request_id=request_id(),
        )
    )
    console.print(f"Answering everything with a) earns {graded.attempt.score:g} of {graded.attempt.max_score:g}; why:")
    for result in graded.results:
        evidence = result.question.key.evidence
        mark = "✓" if result.correct else "✗"
        line = f" {mark} {result.question.number}. «{evidence.quote}» ({evidence.document_title}, p. {evidence.page})"
        console.print(line, markup=False, style="cyan", soft_wrap=True)


async def _ledger(student: BacmrClient) -> None:
    _title("The wallet's ledger")
    listed = await student.wallet.ListLedgerEntries(wallet_pb2.ListLedgerEntriesRequest())
    table = Table("#", "kind", "from", "to", "tokens", "available after", "hash", box=None)
    for entry in reversed(listed.entries):
        kind = wallet_pb2.LedgerKind.Name(entry.kind).removeprefix("LEDGER_KIND_").lower().replace("_", " ")
        table.add_row(
            str(entry.sequence),
            kind,
            entry.debit_account,
            entry.credit_account,
            str(entry.amount_tokens),
            str(entry.balance_after_tokens),
            f"{entry.hash[:12]}…",
        )
    console.print(table)
    report = await student.wallet.VerifyLedger(wallet_pb2.VerifyLedgerRequest())
    console.print("The ledger verifies." if report.ok else "The ledger does NOT verify.")
    if not report.ok:
        raise StartupError("the student's ledger does not verify; run `bacmr reconcile`")


def _operator_password(folder: Path) -> str:
    """Return the demo operator's password, made on the first run and kept where only this user reads it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "operator-password"
        if not file.exists():
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
                out.write(secrets.token_urlsafe(24))
        return file.read_text()
    except OSError as error:
        raise StartupError(f"BACMR_DATA_DIR: {folder} cannot be used: {error.strerror}") from None


def _title(text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")
