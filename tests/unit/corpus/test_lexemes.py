"""Promises of how texts are written down for full-text search, and of who may see a chunk."""

from dataclasses import replace
from hashlib import sha256
from uuid import uuid4

import pytest

from server.caller import Caller, Role
from server.corpus import lexemes
from server.corpus.passage import Chunk, may_see
from server.text.analysis import ANALYSIS_VERSION
from server.text.language import Language


@pytest.mark.parametrize(("times", "label"), [(1, "D"), (2, "C"), (3, "B"), (4, "B"), (5, "A"), (40, "A")])
def test_the_label_tells_how_often_a_term_occurs(times: int, label: str) -> None:
    assert lexemes.of_passage("1960 " * times).literal == f"'1960':1{label}"


def test_the_length_counts_repetitions() -> None:
    assert lexemes.of_passage("kiwi kiwi mangue").term_count == 3


def test_query_and_passage_meet_in_the_same_terms() -> None:
    (asked,) = lexemes.of_query("Équations")
    assert f"'{asked}'" in lexemes.of_passage("une équation").literal


def test_a_query_has_a_limit() -> None:
    assert len(lexemes.of_query(" ".join(f"mot{number}" for number in range(1000)))) == lexemes.MOST_QUERY_TERMS


WRITTEN = """Les élèves résolvent l'équation x² + 3x = 0 ; les cellules végétales absorbent l'énergie, l'énergie, l'énergie.
يدرس التلاميذ الفيزياء والرياضيات، وتتحوّل الطاقة إلى حركة. شنهو لخبار؟ Newton (1687) énonça 3 lois."""


def test_passages_written_down_otherwise_have_another_version() -> None:
    """Raise ANALYSIS_VERSION with any change here: stored terms would silently differ from those that are asked for."""
    literal = " ".join(sorted(lexemes.of_passage(WRITTEN).literal.split()))
    assert (ANALYSIS_VERSION, sha256(literal.encode()).hexdigest()[:16]) == (1, "790a8eab914ee238")


def test_damaged_text_leaves_no_giant_terms() -> None:
    assert lexemes.of_passage("x" * 5000) == lexemes.Lexemes("", 0)


CHUNK = Chunk(
    id="0" * 64,
    document_id=uuid4(),
    document_title="Cours",
    page=1,
    index=0,
    text="un",
    token_count=1,
    language=Language.FRENCH,
    start=0,
    end=2,
    content_hash="0" * 64,
    namespace="",
    subject="",
    grade="",
    owner_id=uuid4(),
)
PRIVATE = replace(CHUNK, private=True)


@pytest.mark.parametrize(
    ("role", "shared", "private"),
    [
        (Role.ANYONE, False, False),
        (Role.STUDENT, True, False),
        (Role.TEACHER, True, False),
        (Role.ADMIN, True, True),
        (Role.SERVICE, True, True),
    ],
)
def test_who_sees_what(role: Role, shared: bool, private: bool) -> None:
    who = Caller(user_id=uuid4(), role=role)
    assert (may_see(who, CHUNK), may_see(who, PRIVATE)) == (shared, private)


def test_owners_see_their_private_chunks() -> None:
    assert may_see(Caller(user_id=CHUNK.owner_id, role=Role.TEACHER), PRIVATE)


def test_a_private_chunk_without_an_owner_is_not_everyones() -> None:
    assert not may_see(Caller(user_id=None, role=Role.STUDENT), replace(PRIVATE, owner_id=None))
