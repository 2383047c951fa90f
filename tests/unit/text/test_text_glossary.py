"""The term bridge between French, Arabic and Hassaniya."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.text.analysis import terms
from server.text.fold import canonical
from server.text.glossary import Pair, entries, known_terms, render
from server.text.language import Language
from server.text.stemming import stem
from server.text.transliteration import SPELLINGS, arabic_skeleton, latin_skeleton, spellings

F, A, M = Language.FRENCH, Language.ARABIC, Language.HASSANIYA


@pytest.mark.parametrize(
    ("text", "source", "target", "pair"),
    [
        ("Quelle est l'énergie cinétique d'un solide ?", F, A, Pair("énergie cinétique", "طاقة حركية")),
        ("Énoncer la deuxième loi de Newton", F, A, Pair("deuxième loi de Newton", "قانون نيوتن الثاني")),
        ("ما هي الطاقة الحركية للجسم؟", A, F, Pair("الطاقة الحركية", "énergie cinétique")),
        ("شنهو القانون الثاني لنيوتن؟", M, F, Pair("القانون الثاني لنيوتن", "deuxième loi de newton")),
        ("chenhi etta9a el7arakiya?", M, A, Pair("etta9a el7arakiya", "طاقة حركية")),
        ("3lach elma yeghli?", M, F, Pair("elma", "eau")),
        ("علاش لوراق خضر؟", M, F, Pair("لوراق", "feuille")),
        ("شنهو لكسجين؟", M, A, Pair("لكسجين", "أكسجين")),
        ("كيفاش نحسبو لحجم؟", M, F, Pair("لحجم", "volume")),
        ("ما هي خصائص الأحماض؟", A, F, Pair("الأحماض", "acide")),
        ("What is kinetic energy?", Language.OTHER, F, Pair("kinetic energy", "énergie cinétique")),
        ("What is Newton's third law?", Language.OTHER, A, Pair("Newton's third law", "قانون نيوتن الثالث")),
        ("How fast is the speed of light?", Language.OTHER, A, Pair("speed of light", "سرعة الضوء")),
    ],
)
def test_a_term_is_carried_into_the_other_language(text, source, target, pair):
    assert pair in render(text, source, target).pairs


def test_a_word_that_only_looks_like_a_term_is_searched_with_its_article_and_not_told_as_the_term():
    carried = render("وين لردن من لبحر؟", M, A)
    assert Pair("لبحر", "بحر") in carried.pairs
    assert "لردن" not in {pair.said for pair in carried.pairs}
    assert {"لردن", "الردن", "الاردن"} <= set(carried.search.split())


def test_of_the_terms_that_share_a_stem_the_one_that_is_written_is_meant():
    assert Pair("منطقة", "région") in render("ما هي أسباب الجفاف في منطقة الساحل؟", A, F).pairs
    assert "logique" not in render("ما هي أسباب الجفاف في منطقة الساحل؟", A, F).search


@pytest.mark.parametrize(("said", "meant"), [("دور", "rôle"), ("الفرق", "différence"), ("حجم", "volume")])
def test_of_the_terms_that_are_written_alike_the_likeliest_is_told_and_all_are_searched(said, meant):
    carried = render(f"ما {said} الكبد؟", A, F)
    assert Pair(said, meant) in carried.pairs
    assert len(carried.search.split()) > 2


def test_numbers_and_names_stay_in_the_rendering():
    text = render("Quelle masse de NaCl dans 12 mL de solution selon Diallo ?", F, A).text
    assert {"12", "NaCl", "Diallo"} <= set(text.split())


def test_nothing_known_gives_no_rendering():
    assert render("bonjour à tous", F, A) is None
    assert render("énergie", F, F) is None
    assert render("énergie", F, Language.OTHER) is None
    assert render("guten tag", Language.OTHER, A) is None


def test_all_spellings_of_a_term_are_searched():
    assert {"متجهة", "شعاع"} <= set(render("Définir un vecteur", F, A).search.split())


def test_question_words_are_read_but_not_searched():
    rendering = render("Pourquoi le fer rouille ?", F, A)
    assert "لماذا" in rendering.text
    assert "لماذا" not in rendering.search


def test_known_terms_say_where_they_stand():
    text = "Le théorème de Pythagore et la dérivée."
    assert [text[start:end] for start, end, _ in known_terms(text, F)] == ["théorème de Pythagore", "dérivée"]


@pytest.mark.parametrize(
    ("latin", "arabic"),
    [
        ("l9anoun", "القانون"),
        ("essour3a", "السرعة"),
        ("lmou3adala", "المعادلة"),
        ("ettarkib", "التركيب"),
        ("l5aliya", "الخلية"),
    ],
)
def test_chat_spelling_sounds_like_the_arabic_word(latin, arabic):
    assert latin_skeleton(latin) == arabic_skeleton(canonical(arabic))


def test_the_data_is_sound():
    found = entries()
    assert len(found) > 600
    for entry in found:
        assert entry.french
        assert entry.arabic
        assert all(not spelling.isascii() for spelling in entry.arabic)
        assert all(spelling == spelling.strip() for spelling in (*entry.french, *entry.arabic, *entry.hassaniya))


@given(st.text(max_size=80), st.sampled_from([F, A, M]), st.sampled_from([F, A, M]))
def test_any_question_can_be_rendered(text, source, target):
    rendering = render(text, source, target)
    assert rendering is None or (rendering.text and rendering.search)


@pytest.mark.parametrize(
    ("latin", "arabic"),
    [
        ("elmanakh", "المناخ"),
        ("ettarikh", "التاريخ"),
        ("lmadina", "المدينة"),
        ("elmu2assis", "المؤسس"),
        ("ma6ar", "مطر"),
        ("9abila", "قبيلة"),
        ("esti9lal", "استقلال"),
    ],
)
def test_hassaniya_in_latin_letters_is_spelled_as_arabic_writes_it(latin, arabic):
    assert {stem(each) for each in spellings(latin)} & set(terms(arabic))


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz23456789", min_size=1, max_size=40))
def test_any_word_has_some_spellings(word):
    found = spellings(word)
    assert 1 <= len(found) <= SPELLINGS
    assert not any(each.isascii() and each for each in found)


def test_an_unknown_word_in_latin_letters_is_searched_in_its_arabic_spellings():
    rendering = render("chenhi elmanakh?", M, A)
    assert set(terms("المناخ")) <= set(terms(rendering.search))
    assert render("3lach elmadinatayn?", M, F) is None


def test_names_in_latin_letters_are_searched_in_arabic_ones():
    rendering = render("Qui a tué Coppolani à Tidjikja ?", F, A)
    assert set(terms("كبولاني")) <= set(terms(rendering.search))
    assert "Coppolani" in rendering.text


def test_small_words_in_latin_letters_are_not_spelled():
    assert render("chenhou emteyn?", M, A) is None


def test_french_terms_are_known_within_hassaniya():
    assert Pair("elchlorophylle", "chlorophylle") in render("chenhou dewr elchlorophylle?", M, F).pairs
    assert Pair("photosynthèse", "تركيب ضوئي") in render("kivach tem photosynthèse?", M, A).pairs
