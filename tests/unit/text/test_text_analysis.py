"""Search terms: words of one meaning meet, words without meaning are left out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.text.analysis import terms, words
from server.text.stemming import stem
from server.text.stopwords import STOP_WORDS


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("الفيزياء", "فيزياء"),
        ("والطاقة", "طاقة"),
        ("بالطاقة الحركيّة", "طاقه حركيه"),
        ("المُعادَلاتُ", "معادلة"),
        ("للمعادلات", "المعادلة"),
        ("كتلته", "كتلة"),
        ("accélérations", "acceleration"),
        ("l'énergie", "energies"),
        ("nées", "ne"),
    ],
)
def test_forms_of_one_word_have_one_term(first, second):
    assert terms(first) == terms(second)


def test_question_words_are_no_terms():
    assert terms("Quelle est la masse du solide ?") == terms("masse solide")
    assert terms("ما هي كتلة الجسم؟") == terms("كتلة الجسم")


def test_a_question_of_stop_words_alone_can_still_be_searched():
    assert terms("Qui est-il ?") != []


def test_letters_and_digits_of_a_formula_stay_together():
    assert "h2o" in terms("la molécule H₂O")


@given(st.text(max_size=60))
def test_terms_are_never_empty_strings(text):
    assert all(terms(text))
    assert len(terms(text)) <= len(words(text))


@given(st.text(st.sampled_from("aéÉ ،x²½ﻼـ\u0301\u200b\u0085\u00a0\u2028\x1c´لاه١-'."), max_size=30))
def test_a_text_taken_apart_at_its_spaces_has_the_terms_of_the_whole(text):
    found = words(text)
    assert terms(text) == ([stem(word) for word in found if word not in STOP_WORDS] or list(map(stem, found)))


@given(st.text("ابتثجحخدذرزسشصضطظعغفقكلمنهوي", min_size=1, max_size=12))
def test_an_arabic_stem_keeps_a_root_of_letters(word):
    assert len(stem(word)) >= min(len(word), 2)


def test_stop_words_are_canonical():
    assert {word for word in STOP_WORDS if words(word) != [word]} == set()
