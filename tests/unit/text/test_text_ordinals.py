"""Which one of several a text speaks of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.text.ordinals import numbers_asked, ordinals


@pytest.mark.parametrize(
    ("text", "number", "beside"),
    [
        ("Troisième loi de Newton", 3, ("loi",)),
        ("la 2e phase", 2, ("phase",)),
        ("La seconde loi", 2, ("loi",)),
        ("المعيار الثالث هو", 3, ("المعيار",)),
        ("أما القضية، والثانية", 2, ()),
        ("أول رئيس لها", 1, ("رييس",)),
        ("في القرن الثاني عشر", 12, ("القرن",)),
        ("وثالثها العدل", 3, ("العدل",)),
        ("9anun Newton ethani", 2, ("newton",)),
    ],
)
def test_an_ordinal_is_read_with_what_it_counts(text, number, beside):
    (found,) = ordinals(text)
    assert (found.number, found.beside) == (number, beside)


@pytest.mark.parametrize("text", ["9,8 m par seconde", "بعد ثانية", "les premiers termes", "18 ans", "page 3", ""])
def test_lengths_of_time_plurals_and_plain_numbers_are_no_ordinals(text):
    assert not ordinals(text)


@pytest.mark.parametrize(
    "question", ["Et la 3 ?", "la loi n° 3 de Newton", "القانون رقم 3", "والثالث؟", "et la 3ème ?"]
)
def test_a_question_may_ask_for_one_by_its_number(question):
    assert numbers_asked(question) == {3}


@given(st.text(max_size=60))
def test_any_text_is_read(text):
    assert all(each.number >= 0 for each in ordinals(text))
