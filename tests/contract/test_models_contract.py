"""What every tutor model and every embedder promises: the local provider, an OpenAI endpoint, and a chain of them."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from server.models.breakers import Breakers
from server.models.chain import ModelChain
from server.models.local.embedder import LocalEmbedder
from server.models.local.tutor import LocalTutor
from server.models.openai_compatible import OpenAITutor
from server.models.openai_embedder import OpenAIEmbedder
from server.models.port import (
    AnswerTask,
    DraftQuestion,
    Embedder,
    Finished,
    FinishReason,
    ProviderFailure,
    Purpose,
    QuestionKind,
    QuizTask,
    Source,
    TextDelta,
    Turn,
    TutorModel,
)
from server.models.steady_embedder import SteadyEmbedder
from server.text.language import Language
from tests.openai_server import Wire, serving

FRENCH = (
    Source(
        1,
        "La photosynthèse produit du dioxygène. Elle a lieu dans les chloroplastes des cellules végétales. "
        "La chlorophylle absorbe la lumière du soleil.",
        "Biologie",
        12,
    ),
    Source(
        4,
        "Le théorème de Pythagore relie les côtés d'un triangle rectangle. Le carré de l'hypoténuse est égal à la "
        "somme des carrés des deux autres côtés.",
        "Mathématiques",
        7,
    ),
)
ARABIC = (
    Source(
        2,
        "كان ابن رشد فيلسوفا وطبيبا وقاضيا من الأندلس. شرح كتب أرسطو ودافع عن الفلسفة في كتاب تهافت التهافت. "
        "ولد في مدينة قرطبة سنة 1126.",
        "الفلسفة",
        3,
    ),
)
QUESTIONS = {
    Language.FRENCH: ("Que produit la photosynthèse ?", FRENCH),
    Language.ARABIC: ("أين ولد ابن رشد؟", ARABIC),
}
KINDS = (QuestionKind.SINGLE_CHOICE, QuestionKind.CLOZE, QuestionKind.TRUE_FALSE)


def teacher(body: dict[str, Any]) -> str:
    """Say what a good model would, from what the request shows."""
    said = body["messages"][-1]["content"]
    asked = body.get("response_format", {}).get("json_schema", {}).get("name", "")
    numbers = re.findall(r'<source number="(\d+)"', said)
    if asked == "rerank":
        query = said.split("</question>")[0].removeprefix("<question>").lower().split()
        passages = said.lower().split("<source ")[1:]
        return json.dumps({"scores": [sum(word in passage for word in query) for passage in passages]})
    if asked == "quiz":
        sentence = said.split(">\n", 1)[1].split(".")[0] + "."
        draft = {"kind": "cloze", "stem": "____", "options": [], "correct": [], "accepted": ["x"], "explanation": "e"}
        question = draft | {"source_number": int(numbers[0]), "quote": sentence, "topic": "t"}
        return json.dumps({"questions": [question, question]}, ensure_ascii=False)
    if numbers:
        return f"Réponse tirée de la leçon [{numbers[0]}]."
    return "النص المترجم"


@pytest_asyncio.fixture(scope="module")
async def wire() -> AsyncIterator[Wire]:
    async with serving() as opened:
        opened.script = teacher
        yield opened


@pytest_asyncio.fixture(params=["local", "openai", "chain"])
async def model(request: pytest.FixtureRequest, wire: Wire) -> AsyncIterator[TutorModel]:
    endpoint = OpenAITutor("endpoint", wire.url, "teacher", "key")
    down = OpenAITutor("down", wire.url, "teacher:500", "key")
    chain = ModelChain([down, endpoint], Breakers(1, 600), last=LocalTutor())
    models: dict[str, TutorModel] = {"local": LocalTutor(), "openai": endpoint, "chain": chain}
    yield models[request.param]
    await endpoint.close()
    await down.close()


@pytest_asyncio.fixture(params=["local", "openai", "steady"])
async def embedder(request: pytest.FixtureRequest, wire: Wire) -> AsyncIterator[Embedder]:
    endpoint = OpenAIEmbedder(wire.url, "embedder", 96, "key")
    steady = SteadyEmbedder(LocalEmbedder(), Breakers())
    embedders: dict[str, Embedder] = {"local": LocalEmbedder(), "openai": endpoint, "steady": steady}
    yield embedders[request.param]
    await endpoint.close()


@pytest.fixture(params=QUESTIONS, ids=str)
def task(request: pytest.FixtureRequest) -> AnswerTask:
    question, sources = QUESTIONS[request.param]
    return AnswerTask(question, sources, request.param, 300)


async def test_an_answer_streams_text_and_ends_with_how_it_ended(model: TutorModel, task: AnswerTask) -> None:
    events = [event async for event in model.answer(task)]
    assert isinstance(events[-1], Finished)
    assert all(isinstance(event, TextDelta) and event.text for event in events[:-1])
    assert events[-1].reason is FinishReason.STOP
    assert events[-1].model


async def test_an_answer_cites_only_sources_it_was_given(model: TutorModel, task: AnswerTask) -> None:
    text = "".join([event.text async for event in model.answer(task) if isinstance(event, TextDelta)])
    cited = {int(number) for number in re.findall(r"\[(\d+)\]", text)}
    assert cited
    assert cited <= {source.number for source in task.sources}


async def test_an_answer_tells_what_it_used_within_what_was_quoted(model: TutorModel, task: AnswerTask) -> None:
    events = [event async for event in model.answer(task)]
    assert isinstance(events[-1], Finished)
    usage = events[-1].usage
    assert 0 <= usage.prompt_tokens <= model.prompt_tokens(task)
    assert 0 <= usage.completion_tokens <= task.max_tokens


async def test_a_longer_task_is_quoted_higher(model: TutorModel, task: AnswerTask) -> None:
    history = (Turn("Et avant ?", "Une longue réponse " * 50),)
    longer = AnswerTask(task.question, task.sources, task.language, task.max_tokens, history)
    assert model.prompt_tokens(longer) >= model.prompt_tokens(task)


async def test_an_answer_may_be_left_at_any_time(model: TutorModel, task: AnswerTask) -> None:
    stream = model.answer(task)
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_quiz_streams_questions_that_quote_their_source(model: TutorModel) -> None:
    task = QuizTask("photosynthèse", FRENCH, Language.FRENCH, 2, KINDS, "medium", 2_000)
    events = [event async for event in model.quiz(task)]
    assert isinstance(events[-1], Finished)
    assert len(events) > 1
    texts = {source.number: source.text for source in FRENCH}
    for draft in events[:-1]:
        assert isinstance(draft, DraftQuestion)
        assert draft.kind in KINDS
        assert draft.quote in texts[draft.source_number]
    assert model.prompt_tokens(task) > 0


async def test_reranking_puts_the_passage_that_answers_first(model: TutorModel) -> None:
    scores = await model.rerank("théorème de Pythagore", [source.text for source in FRENCH])
    assert len(scores) == 2
    assert np.isfinite(scores).all()
    assert scores[1] > scores[0]


async def test_reranking_nothing_gives_nothing(model: TutorModel) -> None:
    assert await model.rerank("q", []) == []


async def test_a_translation_comes_or_its_lack_is_said(model: TutorModel) -> None:
    try:
        text = await model.translate("Que produit la photosynthèse ?", Language.FRENCH, Language.ARABIC)
    except ProviderFailure:
        return
    assert text.strip()


async def test_a_follow_up_question_becomes_one_that_stands_alone(model: TutorModel) -> None:
    history = [Turn("Que produit la photosynthèse ?", "Du dioxygène [1].")]
    assert (await model.standalone("Et où a-t-elle lieu ?", history)).strip()


async def test_a_provider_has_a_name(model: TutorModel) -> None:
    assert model.name


async def test_embeddings_are_unit_vectors_of_the_told_length(embedder: Embedder) -> None:
    matrix = await embedder.embed(["la lumière", "الضوء", "x"], Purpose.PASSAGE)
    assert matrix.shape == (3, embedder.dimensions)
    assert matrix.dtype == np.float32
    assert np.allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-5)


async def test_the_same_text_has_the_same_embedding_in_any_company(embedder: Embedder) -> None:
    alone = await embedder.embed(["la lumière"], Purpose.PASSAGE)
    together = await embedder.embed(["الضوء", "la lumière"], Purpose.PASSAGE)
    assert np.allclose(alone[0], together[1], atol=1e-6)


async def test_no_texts_have_no_embeddings(embedder: Embedder) -> None:
    assert (await embedder.embed([], Purpose.QUERY)).shape == (0, embedder.dimensions)


async def test_an_embedder_names_its_vector_space(embedder: Embedder) -> None:
    assert embedder.name
