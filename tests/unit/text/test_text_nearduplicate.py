"""Near-duplicates are found, exercises with other figures are kept apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.text.figures import same_figures
from server.text.nearduplicate import (
    CERTAIN_DISTANCE,
    candidates,
    distance,
    is_duplicate,
    jaccard,
    shingles,
    signed,
    simhash,
    unsigned,
)

EXERCISE = (
    "Un mobile de masse m = {mass} kg se déplace à la vitesse v = {speed} m/s sur un plan horizontal. Il subit une "
    "force de frottement constante f = 3,5 N. Calculer son énergie cinétique puis la distance d'arrêt du mobile."
)
HASHES = st.integers(0, 2**64 - 1)


@given(HASHES)
def test_a_hash_survives_postgresql(value):
    assert -(2**63) <= signed(value) < 2**63
    assert unsigned(signed(value)) == value


@given(HASHES, st.sets(st.integers(0, 63), max_size=CERTAIN_DISTANCE))
def test_the_distance_is_the_number_of_bits_that_differ(value, flipped):
    other = value
    for bit in flipped:
        other ^= 1 << bit
    assert distance(value, other) == len(flipped)


@given(st.text(max_size=100))
def test_a_text_is_its_own_duplicate(text):
    assert is_duplicate(text, text)
    assert jaccard(shingles(text), shingles(text)) == 1.0


@given(st.text(max_size=60), st.text(max_size=60))
def test_jaccard_is_symmetric_and_a_share(first, second):
    ours, theirs = shingles(first), shingles(second)
    assert jaccard(ours, theirs) == jaccard(theirs, ours)
    assert 0.0 <= jaccard(ours, theirs) <= 1.0


def test_the_hash_of_a_text_never_changes():
    assert simhash("La photosynthèse produit du glucose.") == simhash("la photosynthese  produit du GLUCOSE.")
    assert simhash("La photosynthèse produit du glucose.") == 0xE2E425EF59FCB82F


@pytest.mark.parametrize("times", [8, 20])
def test_a_long_text_with_a_misprint_is_within_the_certain_distance(times):
    text = " ".join(EXERCISE.format(mass=number, speed=number + 7) for number in range(times))
    assert distance(simhash(text), simhash(text.replace("mobile", "mobyle", 1))) <= CERTAIN_DISTANCE


def test_candidates_come_nearest_first():
    assert candidates(0b1111, [0, 0b1111, 2**64 - 1]).tolist() == [1, 0]


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.upper(),
        lambda text: text.replace("é", "e").replace("î", "i"),
        lambda text: text.replace(",", "").replace(".", ""),
        lambda text: f"Lycée national, série D\n{text}\nPage 7",
        lambda text: text.replace("mobile", "mobyle", 1),
        lambda text: text.replace("Un mobile de masse ", ""),
        lambda text: f"{text}\n\n12",
        lambda text: text.replace("vitesse v", "v vitesse"),
    ],
)
def test_an_edited_copy_is_a_duplicate(edit):
    text = EXERCISE.format(mass=12, speed=30)
    assert is_duplicate(text, edit(text))


@pytest.mark.parametrize(("mass", "speed"), [(13, 30), (12, 31), (30, 12), (120, 30), (1, 30)])
def test_an_exercise_with_other_numbers_is_another_exercise(mass, speed):
    assert not is_duplicate(EXERCISE.format(mass=12, speed=30), EXERCISE.format(mass=mass, speed=speed))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Étudier la fonction f(x) = sin(x) + 2", "Étudier la fonction f(x) = cos(x) + 2"),
        ("Résoudre x + 3 = 0 dans R", "Résoudre x - 3 = 0 dans R"),
        ("Calculer pour n = 4 la somme des termes de la suite", "Calculer pour n = 5 la somme des termes de la suite"),
    ],
)
def test_another_sign_or_function_is_another_formula(first, second):
    assert not same_figures(first, second)


def test_a_misprinted_digit_is_not_another_number():
    assert same_figures("La guerre finit en 1945 après six ans", "La guerre finit en 19k5 après six ans")


def test_typography_of_a_number_is_not_another_number():
    assert same_figures("Il y a 3 000 habitants ici", "Il y a 3000 habitants ici")


def test_different_texts_are_no_duplicates():
    assert not is_duplicate("La photosynthèse produit du glucose et du dioxygène.", EXERCISE)
