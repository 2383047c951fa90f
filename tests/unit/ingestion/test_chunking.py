"""Chunks: exact token budgets, clean cuts, full coverage, ids that a second run makes again."""

import hashlib
import unicodedata
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.ingestion.chunking import ChunkSize, PageText, chunk_id, chunk_pages, split
from server.text import tokens
from server.text.language import Language

FILE = UUID("11111111-2222-3333-4444-555555555555")
FRENCH = ChunkSize(512, 64)
ARABIC = ChunkSize(384, 48)
SMALL = ChunkSize(24, 6)
SIZES = {Language.FRENCH: FRENCH, Language.ARABIC: ARABIC, Language.HASSANIYA: ARABIC}
PROSE = "La dérivée d'une fonction mesure sa variation. Elle est nulle en un extremum local. " * 120
ARABIC_PROSE = "الفلسفة كلمة يونانية الأصل معناها محبة الحكمة. وهي تفكير نقدي يسأل عن أسس المعرفة والوجود. " * 60

letters = st.sampled_from("abcé ù.!?\n\tكتاب مَدرَسة ، 123٤٥=+√x²😀e\u0301")
texts = st.text(letters, max_size=400) | st.text(max_size=200)
sizes = st.integers(4, 60).flatmap(lambda most: st.builds(ChunkSize, st.just(most), st.integers(0, most - 2)))


def joins(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Mc", "Me")


@settings(max_examples=150, deadline=None)
@given(texts, sizes)
def test_the_chunks_cover_all_of_a_text(text: str, size: ChunkSize) -> None:
    covered = set()
    for span in split(text, size):
        covered.update(range(span.start, span.end))
    assert all(text[place].isspace() for place in set(range(len(text))) - covered)


@settings(max_examples=150, deadline=None)
@given(texts, sizes)
def test_a_chunk_holds_exactly_the_tokens_it_claims(text: str, size: ChunkSize) -> None:
    for span in split(text, size):
        assert tokens.count(text[span.start : span.end]) == span.token_count


@settings(max_examples=150, deadline=None)
@given(texts, sizes)
def test_a_cut_never_parts_a_letter_from_its_marks(text: str, size: ChunkSize) -> None:
    for span in split(text, size):
        assert span.end == len(text) or not joins(text[span.end]) or text[span.end - 1].isspace()


@settings(max_examples=150, deadline=None)
@given(texts, sizes)
def test_chunks_move_forward_and_end(text: str, size: ChunkSize) -> None:
    spans = split(text, size)
    assert all(first.start < second.start and first.end < second.end for first, second in pairwise(spans))


@pytest.mark.parametrize(("text", "size"), [(PROSE, FRENCH), (ARABIC_PROSE, ARABIC)], ids=["french", "arabic"])
def test_prose_fits_its_budget_and_fills_most_of_it(text: str, size: ChunkSize) -> None:
    spans = split(text, size)
    assert len(spans) > 3
    assert all(span.token_count <= size.tokens for span in spans)
    assert all(span.token_count > 0.7 * size.tokens for span in spans[:-1])


@pytest.mark.parametrize(("text", "size"), [(PROSE, FRENCH), (ARABIC_PROSE, ARABIC)], ids=["french", "arabic"])
def test_prose_is_cut_between_sentences(text: str, size: ChunkSize) -> None:
    spans = split(text, size)
    assert all(text[span.start : span.end].endswith(".") for span in spans)
    assert all(span.start == 0 or text[: span.start].rstrip().endswith(".") for span in spans)


@pytest.mark.parametrize(("text", "size"), [(PROSE, FRENCH), (ARABIC_PROSE, ARABIC)], ids=["french", "arabic"])
def test_neighbours_overlap_by_no_more_than_asked_for(text: str, size: ChunkSize) -> None:
    spans = split(text, size)
    overlaps = [tokens.count(text[second.start : first.end]) for first, second in pairwise(spans)]
    assert all(0 < overlap <= size.overlap_tokens + 2 for overlap in overlaps)


def test_words_stay_whole_where_sentences_are_too_long() -> None:
    text = " ".join(f"mot{number}" for number in range(400))
    for span in split(text, SMALL):
        assert span.start == 0 or text[span.start - 1] == " "
        assert span.end == len(text) or text[span.end] == " "


def test_a_word_longer_than_the_budget_is_cut_between_characters() -> None:
    text = "ك" * 500
    spans = split(text, SMALL)
    assert len(spans) > 10
    assert all(0 < span.token_count <= SMALL.tokens for span in spans)
    assert all(first.end >= second.start for first, second in pairwise(spans))


@pytest.mark.parametrize("text", ["", "   \n\t "])
def test_an_empty_page_has_no_chunks(text: str) -> None:
    assert split(text, FRENCH) == []


def test_a_short_page_is_one_chunk_without_the_space_around_it() -> None:
    (span,) = split("  Le cours.  \n", FRENCH)
    assert (span.start, span.end) == (2, 11)


def test_the_id_is_the_hash_of_file_page_and_index() -> None:
    assert chunk_id(FILE, 3, 7) == hashlib.sha256(b"11111111-2222-3333-4444-555555555555:3:7").hexdigest()


def test_the_same_file_gives_the_same_chunks_again() -> None:
    pages = [PageText(1, PROSE, Language.FRENCH), PageText(2, ARABIC_PROSE, Language.ARABIC)]
    assert list(chunk_pages(FILE, pages, SIZES)) == list(chunk_pages(FILE, pages, SIZES))


def test_an_edit_of_one_page_leaves_the_chunks_of_others_as_they_are() -> None:
    before = list(chunk_pages(FILE, [PageText(1, PROSE, Language.FRENCH), PageText(2, "Fin.", Language.FRENCH)], SIZES))
    after = list(
        chunk_pages(FILE, [PageText(1, "Bref.", Language.FRENCH), PageText(2, "Fin.", Language.FRENCH)], SIZES)
    )
    assert before[-1] == after[-1]


def test_a_changed_text_changes_the_content_hash_but_not_the_id() -> None:
    (before,) = chunk_pages(FILE, [PageText(1, "Un.", Language.FRENCH)], SIZES)
    (after,) = chunk_pages(FILE, [PageText(1, "Deux.", Language.FRENCH)], SIZES)
    assert before.id == after.id
    assert before.content_hash != after.content_hash


def test_each_language_has_its_own_budget() -> None:
    pages = [PageText(1, PROSE, Language.FRENCH), PageText(2, PROSE, Language.HASSANIYA)]
    chunks = list(chunk_pages(FILE, pages, SIZES))
    assert max(chunk.token_count for chunk in chunks if chunk.page == 1) > 384
    assert max(chunk.token_count for chunk in chunks if chunk.page == 2) <= 384


def test_a_chunk_is_the_characters_of_its_page_that_it_names() -> None:
    for chunk in chunk_pages(FILE, [PageText(1, PROSE, Language.FRENCH)], SIZES):
        assert chunk.text == PROSE[chunk.start : chunk.end]
