"""The lexical reranker: what says more of the question, closer together, goes first."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.models.local.evidence import FEATURES, evidence, passage, question
from server.models.local.reranker import WEIGHTS, rerank


def best(query, texts):
    scores = rerank(query, texts)
    return texts[scores.index(max(scores))]


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        (
            "énergie cinétique d'un solide",
            ["L'énergie cinétique d'un solide est positive.", "L'énergie potentielle d'un ressort."],
        ),
        (
            "vitesse du son",
            [
                "La vitesse du son dans l'air est 340 m/s.",
                "Le son est une onde. On parle aussi de la lumière et de sa vitesse.",
            ],
        ),
        (
            "Quand la guerre a-t-elle fini ?",
            ["La guerre a fini en 1945.", "La guerre a fini après de longs combats dans toute la région."],
        ),
        ("متى انتهت الحرب؟", ["انتهت الحرب سنة 1945.", "انتهت الحرب بعد معارك طويلة في المنطقة كلها."]),
    ],
)
def test_the_better_passage_goes_first(query, texts):
    assert best(query, texts) == texts[0]
    assert best(query, texts[::-1]) == texts[0]


def test_a_passage_in_another_language_is_found_by_the_question_carried_into_it():
    texts = ["تتساقط الأوراق في الخريف.", "الطاقة الحركية لجسم كتلته m هي نصف كتلته في مربع سرعته."]
    assert best("Quelle est l'énergie cinétique d'un corps ?", texts) == texts[1]
    assert best("What is kinetic energy?", texts) == texts[1]


def test_of_two_passages_that_fit_as_well_that_in_the_language_of_the_question_goes_first():
    french, arabic = "L'énergie cinétique d'un corps.", "الطاقة الحركية لجسم."
    assert best("énergie cinétique d'un corps", [arabic, french]) == french
    assert best("الطاقة الحركية لجسم", [arabic, french]) == arabic


def test_a_passage_that_fits_goes_before_one_that_is_only_in_the_language_of_the_question():
    french, arabic = "Le corps humain et ses organes.", "الطاقة الحركية لجسم كتلته m وسرعته v."
    assert best("énergie cinétique d'un corps", [french, arabic]) == arabic


def test_parts_of_words_count_where_words_do_not_match():
    assert best("photosynthétique", ["La photosynthèse des plantes.", "La géologie des roches."]).startswith("La photo")


def test_nothing_to_rank_gives_nothing():
    assert rerank("question", []) == []


def test_every_feature_is_weighed():
    assert set(WEIGHTS) == set(FEATURES)
    assert evidence(question("masse"), [passage("La masse.")]).shape == (1, len(FEATURES))


@settings(deadline=None)
@given(st.text(max_size=60), st.lists(st.text(max_size=60), max_size=5))
def test_any_text_gets_a_finite_score(query, texts):
    scores = rerank(query, texts)
    assert len(scores) == len(texts)
    assert all(abs(score) < 10 for score in scores)
