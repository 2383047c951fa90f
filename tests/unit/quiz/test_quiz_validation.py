"""What a drafted question must hold to be asked."""

from dataclasses import replace

import pytest

from server.models.port import DraftQuestion, QuestionKind
from server.quiz.validation import Backed, Dropped, signature, validate

SOURCE = "La photosynthèse a lieu dans les chloroplastes. Elle produit du dioxygène à partir de l'eau."
CHOICE = DraftQuestion(
    kind=QuestionKind.SINGLE_CHOICE,
    stem="Où la photosynthèse a-t-elle lieu ?",
    options=("les chloroplastes", "les mitochondries", "le noyau"),
    correct=(0,),
    accepted=(),
    explanation="Le texte le dit.",
    source_number=1,
    quote="La photosynthèse a lieu dans les chloroplastes.",
)
CLOZE = replace(
    CHOICE,
    kind=QuestionKind.CLOZE,
    stem="Elle produit du _____ à partir de l'eau.",
    options=(),
    correct=(),
    accepted=("dioxygène",),
    quote="Elle produit du dioxygène à partir de l'eau.",
)


def test_a_key_that_stands_in_its_quote_is_backed():
    verdict = validate(CHOICE, SOURCE, set())
    assert isinstance(verdict, Backed)
    assert SOURCE[verdict.start : verdict.end] == CHOICE.quote


def test_a_quote_is_found_whatever_its_accents_and_spaces():
    draft = replace(CHOICE, quote="la photosynthese a  lieu dans les chloroplastes")
    assert isinstance(validate(draft, SOURCE, set()), Backed)


def test_an_arabic_quote_is_found_whatever_its_vowel_marks():
    source = "الفلسفة محبة الحكمة عند اليونان القدماء."
    draft = replace(
        CLOZE,
        stem="الفلسفة محبة _____ عند اليونان القدماء.",
        accepted=("الحكمة",),
        quote="الفَلسَفة محبّة الحِكمة عند اليونان",
    )
    assert isinstance(validate(draft, source, set()), Backed)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"quote": "La respiration a lieu la nuit."}, "does not stand in the source"),
        ({"quote": "eau"}, "does not stand in the source"),
        ({"quote": "Elle produit du dioxygène à partir de l'eau."}, "does not hold the key"),
        ({"correct": (0, 1)}, "number of right options"),
        ({"correct": ()}, "number of right options"),
        ({"correct": (3,)}, "names an option that is not there"),
        ({"correct": (-1,)}, "names an option that is not there"),
        ({"options": ("les chloroplastes",)}, "too few or too many"),
        ({"options": ("les chloroplastes", "Les Chloroplastes", "le noyau")}, "the same"),
        ({"options": ("les chloroplastes", " ", "le noyau")}, "empty"),
        ({"stem": " "}, "stem is empty"),
        ({"kind": QuestionKind.SHORT_ANSWER}, "has options"),
        ({"kind": QuestionKind.MULTIPLE_CHOICE, "correct": (0, 1, 2)}, "number of right options"),
        ({"kind": QuestionKind.MULTIPLE_CHOICE, "correct": (0, 0)}, "number of right options"),
        ({"kind": QuestionKind.TRUE_FALSE}, "too few or too many"),
    ],
)
def test_a_choice_that_breaks_a_rule_is_dropped(change, reason):
    verdict = validate(replace(CHOICE, **change), SOURCE, set())
    assert isinstance(verdict, Dropped)
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"stem": "Elle produit du dioxygène."}, "exactly one gap"),
        ({"stem": "_____ produit du _____."}, "exactly one gap"),
        ({"stem": "Le dioxygène : elle produit du _____."}, "gives the answer away"),
        ({"accepted": ()}, "accepts no answer"),
        ({"accepted": ("?",)}, "accepts no answer"),
        ({"accepted": ("diazote",)}, "does not hold the key"),
    ],
)
def test_a_text_question_that_breaks_a_rule_is_dropped(change, reason):
    verdict = validate(replace(CLOZE, **change), SOURCE, set())
    assert isinstance(verdict, Dropped)
    assert reason in verdict.reason


def test_options_that_differ_only_in_their_sign_are_two_options():
    source = "La dérivée de -2x vaut -2 en tout point."
    draft = replace(CHOICE, stem="Combien ?", options=("-2", "2"), quote=source)
    assert isinstance(validate(draft, source, set()), Backed)


def test_a_question_that_was_asked_with_shuffled_options_is_a_repetition():
    shuffled = replace(CHOICE, options=("le noyau", "les chloroplastes", "les mitochondries"), correct=(1,))
    assert validate(shuffled, SOURCE, {signature(CHOICE)}) == Dropped("repeats another question")
