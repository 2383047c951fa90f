"""Quizzes from sentences: backed by quotes, repeatable, with wrong answers that are wrong."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.models.local.distractors import distractors
from server.models.local.keyterms import Key, KeyKind, keys
from server.models.local.quizwriter import GAP, OPTIONS, write
from server.models.port import QuestionKind, QuizTask, Source
from server.text.fold import canonical
from server.text.language import Language

FRENCH = (
    "La photosynthèse permet aux plantes vertes de fabriquer du glucose à partir du gaz carbonique. "
    "La Mauritanie devint indépendante le 28 novembre 1960 après la colonisation française. "
    "L'insuline est une hormone du pancréas qui abaisse le taux de glucose dans le sang. "
    "Le noyau de la cellule contient les chromosomes et l'information génétique. "
    "Un catalyseur augmente la vitesse d'une réaction chimique sans être consommé par elle."
)
ARABIC = (
    "الخلية هي الوحدة الأساسية لجميع الكائنات الحية وتحتوي نواتها على المعلومة الوراثية. "
    "نالت موريتانيا استقلالها يوم 28 نوفمبر سنة 1960 بعد الاستعمار الفرنسي. "
    "الإنسولين هرمون من البنكرياس يخفض نسبة الغلوكوز في الدم بعد الأكل. "
    "يزيد المحفز سرعة التفاعل الكيميائي دون أن يستهلك في نهاية التفاعل."
)
KINDS = tuple(QuestionKind)


def task(text, language, *, kinds=KINDS, count=8, seed=1, topic=""):
    return QuizTask(topic, (Source(1, text, "Livre", 1),), language, count, kinds, "medium", 4000, seed)


@pytest.fixture(params=[(FRENCH, Language.FRENCH), (ARABIC, Language.ARABIC)], ids=["fr", "ar"])
def lesson(request):
    return request.param


def test_every_quote_stands_in_its_source(lesson):
    text, language = lesson
    drafts = list(write(task(text, language)))
    assert len(drafts) >= len(KINDS)
    assert all(draft.quote in text and draft.source_number == 1 for draft in drafts)


def test_the_right_answer_stands_in_the_quote_and_not_in_the_stem(lesson):
    for draft in write(task(*lesson, kinds=(QuestionKind.CLOZE, QuestionKind.SHORT_ANSWER))):
        assert canonical(draft.accepted[0]) in canonical(draft.quote)
        assert f" {canonical(draft.accepted[0])} " not in f" {canonical(draft.stem)} "


def test_a_cloze_question_has_one_gap(lesson):
    drafts = list(write(task(*lesson, kinds=(QuestionKind.CLOZE,))))
    assert drafts
    assert all(draft.stem.count(GAP) == 1 for draft in drafts)


def test_a_choice_offers_four_different_answers_and_one_is_right(lesson):
    drafts = list(write(task(*lesson, kinds=(QuestionKind.SINGLE_CHOICE,))))
    assert drafts
    for draft in drafts:
        assert len(set(map(canonical, draft.options))) == OPTIONS
        (right,) = draft.correct
        assert draft.options[right] in draft.quote
        wrong = [option for place, option in enumerate(draft.options) if place != right]
        assert not any(option in draft.quote for option in wrong)


def test_a_true_statement_is_the_sentence_and_a_false_one_is_not(lesson):
    text, language = lesson
    answers = set()
    for seed in range(6):
        for draft in write(task(text, language, kinds=(QuestionKind.TRUE_FALSE,), seed=seed)):
            assert (draft.quote in draft.stem) == (draft.correct == (0,))
            answers.add(draft.correct)
    assert answers == {(0,), (1,)}


def test_several_right_statements_are_all_in_the_quote(lesson):
    drafts = list(write(task(*lesson, kinds=(QuestionKind.MULTIPLE_CHOICE,))))
    assert drafts
    for draft in drafts:
        right = [draft.options[place] for place in draft.correct]
        wrong = [option for option in draft.options if option not in right]
        assert all(option in draft.quote for option in right)
        assert wrong
        assert not any(option in draft.quote for option in wrong)


def test_the_same_seed_writes_the_same_quiz(lesson):
    assert list(write(task(*lesson, seed=7))) == list(write(task(*lesson, seed=7)))


def test_another_seed_writes_another_quiz(lesson):
    assert list(write(task(*lesson, seed=7))) != list(write(task(*lesson, seed=8)))


def test_the_topic_comes_first():
    (draft,) = write(task(FRENCH, Language.FRENCH, kinds=(QuestionKind.CLOZE,), count=1, topic="réaction chimique"))
    assert "catalyseur" in draft.quote


@pytest.mark.parametrize("first", [0, 1])
def test_what_the_search_puts_first_is_asked_about_first(first):
    sentences = FRENCH.split(". ")[3].rstrip(".") + ".", FRENCH.split(". ")[2].rstrip(".") + "."
    ordered = (sentences[first], sentences[1 - first])
    sources = tuple(Source(number, text, "Livre", 1) for number, text in enumerate(ordered, 1))
    asked = QuizTask("révision de biologie", sources, Language.FRENCH, 1, (QuestionKind.CLOZE,), "medium", 4000, 1)
    assert [draft.source_number for draft in write(asked)] == [1]


def test_no_more_questions_than_asked_for(lesson):
    assert len(list(write(task(*lesson, count=3)))) == 3


def test_a_text_without_facts_gives_no_question():
    assert list(write(task("Oui. Non ? Exercice 3 : calculer x.", Language.FRENCH))) == []


def test_keys_are_what_teaches_most():
    found = keys("La Mauritanie devint indépendante le 28 novembre 1960 après la colonisation.", Language.FRENCH)
    assert {key.text for key in found} >= {"1960", "28", "colonisation", "Mauritanie"}
    assert all(0 <= key.start < key.end for key in found)


@settings(deadline=None)
@given(st.integers(1, 10**7), st.integers(0, 99))
def test_a_wrong_number_looks_like_the_right_one(value, seed):
    text = str(value)
    sentence = f"La valeur est {text} unités."
    key = Key(text, 14, 14 + len(text), KeyKind.NUMBER, 1.0)
    wrong = distractors(key, sentence, [], Language.FRENCH, 3, random.Random(seed))
    assert len(wrong) == len(set(wrong)) == 3
    assert text not in wrong
    assert all(option.isdigit() and int(option) > 0 for option in wrong)


@pytest.mark.parametrize("seed", range(5))
def test_a_wrong_word_is_in_the_script_of_the_right_one(seed):
    sentence = "La force s'exprime en newton."
    right = Key("newton", 22, 28, KeyKind.NOUN, 1.0)
    others = [Key(word, 0, len(word), KeyKind.NOUN, 1.0) for word in ("القانون", "موريتانيا", "courant", "moment")]
    wrong = distractors(right, sentence, others, Language.FRENCH, 3, random.Random(seed))
    assert sorted(wrong) == ["courant", "moment"]


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=200), st.sampled_from(list(Language)), st.integers(0, 5))
def test_any_text_can_be_tried(text, language, seed):
    assert len(list(write(task(text, language, seed=seed, count=3)))) <= 3
