"""Promises of the citation check."""

from dataclasses import replace
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from server.retrieval.citations import check, check_across, claims
from server.retrieval.passage import Passage
from server.text.language import Language
from tests.fakes import ScriptedModel

NEWTON = (
    "Première loi : dans un référentiel galiléen, un corps isolé garde une vitesse constante. "
    "Deuxième loi : la somme des forces est égale à la masse multipliée par l'accélération. "
    "La constante g vaut 9,8 m/s² à la surface de la Terre."
)
ARABIC = (
    "الفلسفة بحث عن الحقيقة بالعقل. قال ابن رشد إن الحكمة صاحبة الشريعة وأختها الرضيعة. ولد ابن رشد سنة 1126 في قرطبة."
)


def passage(text: str, start: int = 0, page: int = 3) -> Passage:
    return Passage(
        chunk_id="c" * 64,
        document_id=UUID(int=7),
        document_title="Physique",
        page=page,
        text=text,
        score=1.0,
        language=Language.FRENCH,
        start=start,
        end=start + len(text),
        token_count=50,
    )


def no_terms(text: str) -> tuple[str, ...]:
    return ()


def test_a_sentence_that_stands_in_the_passage_is_cited_where_it_stands() -> None:
    found = check("Un corps isolé garde une vitesse constante [1].", [passage(NEWTON, start=100)], no_terms)
    [citation] = found.citations
    assert citation.quote.casefold() == "un corps isolé garde une vitesse constante"
    assert NEWTON[citation.start - 100 : citation.end - 100] == citation.quote


def test_a_sentence_in_other_words_is_cited_at_the_sentence_it_rests_on() -> None:
    answer = "La somme des forces vaut la masse fois l'accélération [1]."
    [citation] = check(answer, [passage(NEWTON)], no_terms).citations
    assert citation.quote.startswith("Deuxième loi")
    assert citation.quote.endswith("l'accélération.")


def test_arabic_is_found_whatever_its_vowel_marks() -> None:
    [citation] = check("الحِكْمَةُ صاحبةُ الشَّريعة وأُختها الرضيعة [1]", [passage(ARABIC)], no_terms).citations
    assert "الحكمة صاحبة الشريعة وأختها الرضيعة" in citation.quote


def test_a_quotation_is_cited_word_for_word() -> None:
    answer = "Le cours dit « la somme des forces est égale à la masse multipliée par l'accélération » [1]."
    [citation] = check(answer, [passage(NEWTON)], no_terms).citations
    assert citation.quote == "la somme des forces est égale à la masse multipliée par l'accélération"


def test_a_marker_after_the_full_stop_belongs_to_the_sentence_before() -> None:
    first, second = claims("La force est grande. [1] La masse est petite [2].")
    assert (first.text, [number for number, _ in first.cited]) == ("La force est grande.", [1])
    assert (second.text, [number for number, _ in second.cited]) == ("La masse est petite.", [2])


def test_each_number_of_a_sentence_is_checked_with_the_words_before_it() -> None:
    answer = "Un corps isolé garde une vitesse constante [1] et ابن رشد ولد في قرطبة سنة 1126 [2]."
    found = check(answer, [passage(NEWTON), passage(ARABIC)], no_terms)
    assert {citation.number for citation in found.citations} == {1, 2}


def test_grouped_and_arabic_numbers_are_read() -> None:
    [claim] = claims("الحكمة صاحبة الشريعة [١، ٢].")
    assert [number for number, _ in claim.cited] == [1, 2]


def test_a_citation_of_a_passage_that_was_not_given_is_dropped_and_said() -> None:
    found = check("Un corps isolé garde une vitesse constante [4].", [passage(NEWTON)], no_terms)
    assert found.citations == ()
    assert found.validation.dropped_citations == (4,)


def test_a_citation_that_its_passage_does_not_hold_is_dropped_and_its_sentence_flagged() -> None:
    invented = "Les mammifères respirent par des poumons et allaitent leurs petits"
    found = check(f"{invented} [1].", [passage(NEWTON)], no_terms)
    assert found.citations == ()
    assert found.validation.dropped_citations == (1,)
    assert found.validation.unsupported_sentences == (f"{invented}.",)


def test_a_sentence_with_another_number_than_its_passage_is_unsupported() -> None:
    right = check("La constante g vaut 9,8 m/s² à la surface de la Terre [1].", [passage(NEWTON)], no_terms)
    wrong = check("La constante g vaut 3,7 m/s² à la surface de la Terre [1].", [passage(NEWTON)], no_terms)
    assert right.validation.supported_sentences == 1
    assert wrong.validation.supported_sentences == 0


def test_an_uncited_sentence_that_a_passage_holds_counts_as_supported() -> None:
    found = check("Un corps isolé garde une vitesse constante.", [passage(NEWTON)], no_terms)
    assert found.validation.supported_sentences == 1


def test_a_greeting_is_neither_supported_nor_unsupported() -> None:
    validation = check("Bonjour !", [passage(NEWTON)], no_terms).validation
    assert (validation.supported_sentences, validation.unsupported_sentences) == (0, ())


def test_an_answer_in_another_language_is_found_through_its_school_terms() -> None:
    terms = {"masse": "الكتلة", "accélération": "التسارع", "force": "القوة"}
    text = "القوة تساوي الكتلة في التسارع. الطاقة محفوظة دائما في الجملة المعزولة."
    found = check(
        "La force est la masse fois l'accélération [1].",
        [passage(text)],
        lambda words: [arabic for french, arabic in terms.items() if french in words],
    )
    assert found.citations[0].quote == "القوة تساوي الكتلة في التسارع."


WORDS = st.lists(
    st.sampled_from([*NEWTON.split(), *ARABIC.split(), "[1]", "[2]", "[9]", "\n", "[1, 2]", "«", "»", "0"])
)


@given(WORDS, st.integers(0, 5_000))
def test_every_citation_lies_in_its_passage(words: list[str], start: int) -> None:
    passages = [passage(NEWTON, start), passage(ARABIC, start)]
    for citation in check(" ".join(words), passages, no_terms).citations:
        text = passages[citation.number - 1].text
        assert text[citation.start - start : citation.end - start] == citation.quote != ""


@given(st.text(max_size=400), st.text(max_size=400))
def test_any_answer_can_be_checked_against_any_text(answer: str, text: str) -> None:
    source = passage(text)
    for citation in check(answer + " [1]", [source], no_terms).citations:
        assert text[citation.start : citation.end] == citation.quote


@given(WORDS)
def test_a_number_is_cited_or_dropped_never_lost(words: list[str]) -> None:
    answer = " ".join(words)
    found = check(answer, [passage(NEWTON), passage(ARABIC)], no_terms)
    named = {number for claim in claims(answer) for number, _ in claim.cited}
    assert named == {citation.number for citation in found.citations} | set(found.validation.dropped_citations)


FRENCH_ANSWER = "La philosophie recherche la vérité par la raison [1]."


async def test_an_answer_in_another_language_is_found_through_a_translation() -> None:
    model = ScriptedModel(translation="الفلسفة بحث عن الحقيقة بالعقل")
    found = await check_across(FRENCH_ANSWER, [arabic()], no_terms, model)
    assert found.citations[0].quote == "الفلسفة بحث عن الحقيقة بالعقل."
    assert found.validation.supported_sentences == 1


async def test_a_translation_that_says_something_else_finds_nothing() -> None:
    model = ScriptedModel(translation="الخلية الحية تتنفس في الليل والنهار")
    found = await check_across(FRENCH_ANSWER, [arabic()], no_terms, model)
    assert found.validation.dropped_citations == (1,)


async def test_a_model_that_cannot_translate_leaves_the_citation_dropped() -> None:
    model = ScriptedModel(broken={"translate"})
    found = await check_across(FRENCH_ANSWER, [arabic()], no_terms, model)
    assert found.validation.dropped_citations == (1,)


async def test_an_answer_in_the_language_of_its_passages_is_not_translated() -> None:
    model = ScriptedModel(translation="Un corps isolé garde une vitesse constante.")
    await check_across("Les mammifères allaitent leurs petits [1].", [passage(NEWTON)], no_terms, model)
    assert model.asked["translate"] == 0


def arabic() -> Passage:
    return replace(passage(ARABIC), language=Language.ARABIC)
