"""A quiz room over a real database and wallet, a shelf of two chunks, and a model that drafts what it is told."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from uuid import uuid4

import pytest_asyncio

from server.admin.audit import Audit
from server.caller import acting_as, system
from server.corpus.passage import CorpusFilter
from server.database.once import Once
from server.database.pool import Database
from server.models.port import DraftQuestion, Finished, FinishReason, QuestionKind, QuizTask, Usage
from server.quiz.making import QuizMaker, QuizRequest
from server.quiz.question import Difficulty
from server.quiz.service import QuizService
from server.retrieval.usage import charges_match_usage
from server.text.language import Language
from server.wallet.credits import CreditService
from server.wallet.service import WalletService
from server.wallet.topup import Payment
from tests.fakes import FAILURE, ScriptedModel, ShelfLibrary, chunk_of

WATER = chunk_of(1, "L'eau bout à cent degrés au niveau de la mer. Elle gèle à zéro degré.")
LIGHT = chunk_of(2, "La lumière se propage en ligne droite dans un milieu homogène.")


def draft(stem, right, quote, source=1):
    """A single-choice question whose first option is right."""
    return DraftQuestion(QuestionKind.SINGLE_CHOICE, stem, (right, "autre", "rien"), (0,), (), "Voir.", source, quote)


BOILS = draft("À quelle température l'eau bout-elle ?", "cent degrés", "L'eau bout à cent degrés au niveau de la mer.")
FREEZES = draft("À quelle température gèle-t-elle ?", "zéro degré", "Elle gèle à zéro degré.")
UNBACKED = draft("Qui a découvert l'eau ?", "Pasteur", "Pasteur a découvert l'eau.")


@dataclass
class DraftingModel(ScriptedModel):
    """Drafts `drafts`; waits for `gate` before the last of them, and fails midway when told."""

    drafts: tuple[DraftQuestion, ...] = (UNBACKED, BOILS, FREEZES)
    quizzes: list[QuizTask] = field(default_factory=list)

    async def quiz(self, task: QuizTask) -> AsyncGenerator[DraftQuestion | Finished]:
        self.quizzes.append(task)
        self._ask("quiz", FAILURE)
        for place, question in enumerate(self.drafts, 1):
            if self.gate is not None and place == len(self.drafts):
                await self.gate.wait()
            if "quiz_midway" in self.broken and place == len(self.drafts):
                raise FAILURE
            yield question
        yield Finished(FinishReason.STOP, Usage(300, 200), self.name)


class Shelf(ShelfLibrary):
    """A library without search: quizzes name their chunks."""

    async def sample(self, where, limit):
        return list(self.shelf.values())[:limit]


@dataclass
class Room:
    service: QuizService
    maker: QuizMaker
    model: DraftingModel
    quoting: DraftingModel
    wallet: WalletService
    credits: CreditService

    async def generate(self, request):
        return [event async for _, event in self.service.generate(request)]

    async def top_up(self, who, tokens):
        with acting_as(system()):
            await self.credits.top_up(Payment("test", str(uuid4()), who.user_id, tokens))

    async def balance(self, who):
        with acting_as(who):
            return (await self.wallet.balance(who.user_id)).posted_tokens


def request(**change):
    """A request for two questions from the first chunk."""
    given = {
        "topic": "",
        "where": CorpusFilter(),
        "chunk_ids": (WATER.id,),
        "question_count": 2,
        "kinds": (),
        "difficulty": Difficulty.MEDIUM,
        "language": Language.FRENCH,
        "request_id": uuid4(),
    }
    return QuizRequest(**{**given, **change})


@pytest_asyncio.fixture
async def room(database):
    shelf = Shelf()
    shelf.put(WATER, LIGHT)
    model = DraftingModel()
    wallet, once = WalletService(database), Once(database)
    credit = CreditService(database, once, audit=Audit(database).record, voucher_key=b"k" * 32)
    quoting = DraftingModel(name="local", free=True)
    maker = QuizMaker(database, wallet, None, shelf, model, quoting=quoting, open_limit=2)
    yield Room(QuizService(database, once, maker), maker, model, quoting, wallet, credit)
    if model.gate is not None:
        model.gate.set()
    await asyncio.wait_for(maker.close(), 10)
    await wallet.close()


@pytest_asyncio.fixture(scope="module", autouse=True)
async def books(database: Database) -> AsyncIterator[None]:
    """Whatever the tests of a module did to quizzes, all charges must fit in the end."""
    yield
    with acting_as(system()):
        report = await WalletService(database, foreign_checks=[charges_match_usage]).reconcile()
    assert [check for check in report.checks if not check.ok] == []
