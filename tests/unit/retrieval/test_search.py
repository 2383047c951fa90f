"""Promises of the search pipeline: what each step adds, and that any one of them may break."""

import asyncio
from uuid import uuid4

import numpy as np
import pytest

from server.caller import Caller, Role, Tier, acting_as
from server.corpus.passage import CorpusFilter
from server.refusal import NoPassages, StoreUnavailable
from server.retrieval.passage import SearchResult, Step
from server.text.language import Language
from tests.fakes import chunk_of
from tests.searching import CAPS, CELL, FORCE, QUESTION, STUDENT, Bench


@pytest.fixture
async def bench() -> Bench:
    return await Bench().fill()


def steps(result: SearchResult) -> set[Step]:
    return {degraded.step for degraded in result.degraded}


async def test_the_passage_that_answers_comes_first(bench: Bench) -> None:
    result = await bench.search()
    assert result.passages[0].text == FORCE
    assert result.detected_language is Language.FRENCH
    assert result.degraded == ()


async def test_a_repeated_question_asks_no_model_no_index_and_no_database(bench: Bench) -> None:
    first = await bench.search()
    bench.model.asked.clear()
    bench.vectors.asked.clear()
    bench.library.asked.clear()
    again = await bench.search()
    assert again.passages == first.passages
    assert bench.model.asked.total() == bench.vectors.asked.total() == 0
    assert bench.library.asked["full_text"] == 0


async def test_students_share_reranking_but_not_results(bench: Bench) -> None:
    await bench.search()
    await bench.search(who=Caller(user_id=uuid4(), role=Role.STUDENT, tier=Tier.FREE))
    assert bench.model.asked["rerank"] == 1
    assert bench.vectors.asked["dense"] == 2


async def test_ten_students_with_one_question_cost_the_small_model_a_tenth_of_its_calls(bench: Bench) -> None:
    for _ in range(10):
        await bench.search(who=Caller(user_id=uuid4(), role=Role.STUDENT, tier=Tier.FREE))
    assert (bench.model.asked["rerank"], bench.model.asked["translate"]) == (1, 1)


async def test_a_new_document_is_found_by_a_question_asked_before(bench: Bench) -> None:
    await bench.search("mitochondries et photosynthèse")
    bench.library.put(chunk_of(9, "La photosynthèse produit du glucose dans les mitochondries."))
    result = await bench.search("mitochondries et photosynthèse")
    assert result.passages[0].page == 9


async def test_a_passage_that_is_gone_leaves_its_place_to_the_next(bench: Bench) -> None:
    first, second = (await bench.search(limit=2)).passages
    del bench.library.shelf[first.chunk_id]
    assert (await bench.search(limit=1)).passages == (second,)


async def test_a_broken_reranker_leaves_the_fused_order(bench: Bench) -> None:
    bench.model.broken.add("rerank")
    result = await bench.search()
    assert steps(result) == {Step.RERANK}
    assert result.passages[0].text == FORCE


async def test_a_broken_translation_leaves_the_question_as_asked(bench: Bench) -> None:
    bench.model.broken.add("translate")
    result = await bench.search()
    assert steps(result) == {Step.TRANSLATION}
    assert result.passages[0].text == FORCE


@pytest.mark.parametrize("part", ["embed", "dense"])
async def test_a_broken_vector_search_leaves_full_text(bench: Bench, part: str) -> None:
    bench.embedder.broken.add(part)
    bench.vectors.broken.add(part)
    result = await bench.search()
    assert steps(result) == {Step.DENSE}
    assert result.passages[0].text == FORCE


async def test_broken_full_text_leaves_the_vector_search(bench: Bench) -> None:
    bench.library.broken.add("full_text")
    result = await bench.search()
    assert steps(result) == {Step.FULL_TEXT}
    assert result.passages[0].text == FORCE


async def test_with_both_searches_broken_the_store_is_unavailable(bench: Bench) -> None:
    bench.library.broken.add("full_text")
    bench.vectors.broken.add("dense")
    with pytest.raises(StoreUnavailable):
        await bench.search()


async def test_everything_else_broken_still_finds_passages(bench: Bench) -> None:
    bench.model.broken |= {"rerank", "translate"}
    bench.vectors.broken.add("dense")
    result = await bench.search()
    assert steps(result) == {Step.RERANK, Step.TRANSLATION, Step.DENSE}
    assert result.passages[0].text == FORCE


async def test_a_result_that_misses_a_step_is_not_kept(bench: Bench) -> None:
    bench.model.broken.add("rerank")
    await bench.search()
    bench.model.broken.clear()
    assert (await bench.search()).degraded == ()


async def test_before_the_first_index_full_text_answers_alone(bench: Bench) -> None:
    bench.index = None
    result = await bench.search()
    assert result.passages[0].text == FORCE
    assert result.degraded == ()


async def test_nothing_found_is_said(bench: Bench) -> None:
    bench.embedder.fixed = np.zeros(64, dtype=np.float32)
    with pytest.raises(NoPassages):
        await bench.search("xyzzy")


async def test_a_passage_that_is_near_only_by_chance_is_not_found(bench: Bench) -> None:
    query = np.zeros(64, dtype=np.float32)
    query[0] = 1.0
    near, chance = np.zeros(64, dtype=np.float32), np.zeros(64, dtype=np.float32)
    near[:2], chance[:2] = (0.3, 0.954), (0.05, 0.9987)
    bench.vectors.rows = {f"{1:064x}": near, f"{2:064x}": chance}
    bench.embedder.fixed = query
    assert [passage.page for passage in (await bench.search("xyzzy")).passages] == [1]


async def test_a_bug_in_a_step_is_not_taken_for_an_outage(bench: Bench) -> None:
    bench.vectors.rows = {"broken": None}  # type: ignore[dict-item]
    with pytest.raises(BaseExceptionGroup):
        await bench.search()


@pytest.mark.parametrize(("tier", "cap"), CAPS.items())
async def test_the_tier_caps_the_results(tier: Tier, cap: int) -> None:
    bench = await Bench(f"La force numéro {number} de la nature." for number in range(40)).fill()
    result = await bench.search("la force de la nature", Caller(uuid4(), Role.STUDENT, tier), limit=200)
    assert len(result.passages) == cap


async def test_fewer_results_may_be_asked_for(bench: Bench) -> None:
    assert len((await bench.search(limit=1)).passages) == 1


async def test_without_a_model_the_school_terms_lead_to_the_other_language() -> None:
    arabic = "القوة تساوي الكتلة في التسارع."
    bench = await Bench([CELL, arabic]).fill()
    bench.model.free = True
    result = await bench.search()
    assert result.passages[0].text == arabic
    assert ("force", Language.ARABIC) in {(pair.term, pair.language) for pair in result.terms}
    assert bench.model.asked["translate"] == 0


async def test_a_library_of_one_language_is_searched_in_that_language_only(bench: Bench) -> None:
    await bench.search()
    assert bench.library.asked["full_text"] == 1


async def test_a_question_in_the_language_of_the_filter_is_not_translated(bench: Bench) -> None:
    with acting_as(STUDENT):
        await bench.service.search(QUESTION, CorpusFilter(language=Language.FRENCH))
    assert bench.model.asked["translate"] == 0


async def test_a_caller_that_hangs_up_leaves_others_their_result(bench: Bench) -> None:
    leader = asyncio.create_task(bench.search())
    follower = asyncio.create_task(bench.search())
    await asyncio.sleep(0)
    leader.cancel()
    assert (await follower).passages[0].text == FORCE
    assert bench.model.asked["rerank"] == 1
