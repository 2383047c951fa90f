"""The clean and the canonical form of a text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.text.fold import canonical, clean, folded, locate, one_line

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=80) | st.text(
    "ab éأإٱىةَّـ ١²ﬁ\u200f\u202b\n\t", max_size=40
)


@given(TEXTS)
def test_folding_twice_changes_nothing(text):
    assert canonical(canonical(text)) == canonical(text)


@given(TEXTS)
def test_cleaning_twice_changes_nothing(text):
    assert clean(clean(text)) == clean(text)


@given(TEXTS)
def test_cleaning_does_not_change_what_is_compared(text):
    assert canonical(clean(text)) == canonical(text)


@given(TEXTS)
def test_every_folded_character_knows_where_it_came_from(text):
    result = folded(text)
    assert result.text == canonical(text)
    assert len(result.offsets) == len(result.text)
    assert list(result.offsets) == sorted(result.offsets)
    for place, offset in enumerate(result.offsets):
        assert result.text[place] == " " or result.text[place] in canonical(text[offset])


@pytest.mark.parametrize(
    "variants",
    [
        ("الأُسْتَاذ", "الاستاذ", "ألإستآذ", "الـأسـتاذ"),
        ("مدرسة", "مدرسه", "مَدْرَسَةٌ"),
        ("Élève", "eleve", "E\u0301LE\u0300VE"),
        ("١٢٣", "123", "۱۲۳"),
        ("ﻻ", "لا", "\u202bلا\u202c"),
        ("cœur", "CŒUR", "coeur"),
        ("گال", "كال", "ڭال"),
    ],
)
def test_spellings_of_one_word_are_one(variants):
    assert len(set(map(canonical, variants))) == 1


def test_a_formula_survives_cleaning():
    assert clean("x² + H₂O ≤ ½") == "x² + H₂O ≤ ½"


def test_direction_marks_and_nul_bytes_do_not_survive_cleaning():
    assert clean("\u202eabc\u202c \x00d\u2067e\u2069\ufeff") == "abc de"


@pytest.mark.parametrize("name", ["Amélie", "مريم منت أحمد", "می\u200cخواهم", "👩\u200d🏫 Fatou"])
def test_a_name_in_one_line_keeps_its_letters_and_joiners(name: str) -> None:
    assert one_line(f" \u2067{name}\u2069\n\u200b") == unicodedata.normalize("NFC", name)


def test_a_title_in_one_line_cannot_turn_or_break_the_line() -> None:
    assert one_line("Physique\r\n\u2028 \u202etxt\u202c.fdp\x00\u061c") == "Physique txt.fdp"


def test_a_quote_is_found_whatever_its_marks():
    text = "قال: الطَّاقَةُ الحَرَكِيَّة تساوي نصف الكتلة"
    start, end = locate("الطاقة الحركية", text)
    assert canonical(text[start:end]) == canonical("الطاقة الحركية")


def test_a_quote_that_is_not_there_is_not_found():
    assert locate("force", "La masse et le temps") is None
    assert locate("", "La masse") is None
