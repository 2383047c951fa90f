"""Hassaniya by its own words, whatever the classifier was trained on."""

import pytest

from server.text.detection import detect
from server.text.dialect import standard_spellings, writes_hassaniya
from server.text.language import Language


@pytest.mark.parametrize(
    "text",
    [
        "nte 3ejlan 7att",
        "la t5ali leyla ka7la",
        "9abl ma yemchi l9isme",
        "li 3lik menchi",
        "3ndi chwey mn lben",
        "yasser mn nass welle chi",
    ],
)
def test_latin_letters_with_digits_and_dialect_words_are_hassaniya(text):
    assert writes_hassaniya("latin", text.split(), likelihood=0.0)


@pytest.mark.parametrize(
    "text",
    [
        "la 2e guerre mondiale et le 3e siècle",
        "un mp3 de 4g et du co2",
        "h2o et ch3cooh sont des molécules",
        "the 2nd of may at 5am",
        "x2 et y3",
        "écrire la formule de c6h12o6",
        "ana aime les fleurs du jardin de sa mère",
    ],
)
def test_ordinals_formulas_and_one_chance_word_are_not(text):
    assert not writes_hassaniya("latin", text.split(), likelihood=0.0)


@pytest.mark.parametrize(
    "word", ["chenhu", "chnhou", "shnu", "shnuwa", "kifash", "kivach", "3lach", "alash", "emteyn", "menhu"]
)
def test_a_question_word_is_known_however_it_is_spelled(word):
    assert writes_hassaniya("latin", [word, "newton"], likelihood=0.0)


@pytest.mark.parametrize("word", ["chien", "chine", "chinois", "machine", "menu", "lâche", "sheen", "kayak", "mention"])
def test_words_of_other_languages_are_no_question_words(word):
    assert not writes_hassaniya("latin", [word, "newton"], likelihood=0.0)


def test_two_dialect_words_decide_in_arabic_script_and_one_only_with_the_classifier():
    two, one = ["شنهو", "ياسر", "فالدرس"], ["شنهو", "معنى", "الدرس"]
    assert writes_hassaniya("arabic", two, likelihood=0.0)
    assert not writes_hassaniya("arabic", one, likelihood=0.01)
    assert writes_hassaniya("arabic", one, likelihood=0.2)


def test_a_few_dialect_words_on_a_long_page_do_not_make_it_hassaniya():
    page = ["كلمة"] * 60 + ["شنهو", "ياسر"]
    assert not writes_hassaniya("arabic", page, likelihood=0.2)


def test_an_unknown_writers_hassaniya_is_told_from_french():
    assert detect("4e 29be chiy ge6 geltou").language is Language.HASSANIYA


@pytest.mark.parametrize(
    ("word", "spellings"),
    [
        ("لكتاب", ("الكتاب", "الاكتاب")),
        ("لصوات", ("الصوات", "الاصوات")),
        ("لاخرى", ("الاخرى",)),
        ("للكتاب", ()),
        ("كتاب", ()),
        ("لا", ()),
    ],
)
def test_an_article_that_lost_its_alef_is_written_out(word, spellings):
    assert standard_spellings(word) == spellings
