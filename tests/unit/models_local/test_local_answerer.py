"""Answers that quote: exact words, a citation on every sentence, honesty about what is missing."""

import re

import pytest

from server.models.local.answerer import LONGEST_QUOTE_CHARACTERS, answer
from server.models.local.phrases import ARABIC, FRENCH, HASSANIYA, phrases
from server.models.port import AnswerTask, Source
from server.text.language import Language
from server.text.sentences import sentences

BIOLOGY = (
    "Les plantes vertes vivent partout. La photosynthèse permet aux plantes de fabriquer du glucose à partir du gaz "
    "carbonique. Elle a lieu dans les chloroplastes. Qui l'a découverte ?"
)
HISTORY = "La Mauritanie devint indépendante le 28 novembre 1960. Sa capitale est Nouakchott."
CELL = (
    "الخلية هي الوحدة الأساسية للكائنات الحية. "
    "التركيب الضوئي يمكن النبات من صنع الغلوكوز انطلاقا من ثاني أكسيد الكربون."
)
QUOTE = re.compile(r"(?:« (.+?) »|“(.+?)”) \[(\d+)\]")


def ask(question, *texts, language=Language.FRENCH, max_tokens=500, small=False):
    sources = tuple(Source(number, text, "Livre", 1) for number, text in enumerate(texts, start=1))
    return "".join(answer(AnswerTask(question, sources, language, max_tokens, small=small)))


def quotes(text):
    return [(match[1] or match[2], int(match[3])) for match in QUOTE.finditer(text)]


def test_the_sentence_that_answers_is_quoted_with_its_source():
    text = ask("Que fabrique la photosynthèse ?", HISTORY, BIOLOGY)
    quote, number = quotes(text)[0]
    assert "glucose" in quote
    assert number == 2


@pytest.mark.parametrize(
    ("question", "language"),
    [
        ("Que fabrique la photosynthèse ?", Language.FRENCH),
        ("ما هو التركيب الضوئي؟", Language.ARABIC),
        ("شنهو التركيب الضوئي؟", Language.HASSANIYA),
        ("Qui a inventé le téléphone ?", Language.FRENCH),
    ],
)
def test_every_sentence_cites_and_every_quote_stands_in_its_source(question, language):
    texts = (BIOLOGY, HISTORY, CELL)
    text = ask(question, *texts, language=language)
    assert all(re.search(r"\[\d\]", sentence) for sentence in sentences(text))
    for quote, number in quotes(text):
        assert quote in texts[number - 1]


def test_a_date_is_preferred_where_one_is_asked_for():
    quote, _ = quotes(ask("Quand la Mauritanie devint-elle indépendante ?", HISTORY, BIOLOGY))[0]
    assert "1960" in quote


def test_a_statement_of_two_sources_cites_both():
    assert "[1][2]" in ask(
        "Que fabrique la photosynthèse ?",
        "La photosynthèse fabrique du glucose.",
        "La photosynthese fabrique du glucose !",
    )


def test_what_no_passage_says_is_named():
    text = ask("Quelle est la capitale de la Mauritanie et son hymne ?", HISTORY)
    assert FRENCH.missing.split("{")[0].strip(" ;") in text
    assert "hymne" in text


def test_the_nearest_passage_is_called_so():
    text = ask("Quel est le prix du cuivre à Londres ?", BIOLOGY)
    assert text.startswith(FRENCH.lead_closest.split("{")[0])
    assert len(quotes(text)) == 1


def test_passages_in_another_language_are_announced_in_the_language_of_the_answer():
    text = ask("Qu'est-ce que la photosynthèse ?", CELL)
    assert text.startswith("Les passages trouvés sont en arabe (photosynthèse : تركيب ضوئي)")
    assert quotes(text)[0][0] in CELL


def test_arabic_sources_are_not_foreign_to_hassaniya():
    assert ask("شنهو التركيب الضوئي؟", CELL, language=Language.HASSANIYA).startswith(HASSANIYA.lead.split("{")[0])


def test_no_source_is_said_plainly():
    assert ask("ما هي الخلية؟", language=Language.ARABIC) == ARABIC.nothing


def test_the_small_plan_quotes_less():
    facts = [f"La photosynthèse fabrique le produit numéro {number} des plantes." for number in range(1, 7)]
    question = "Que fabrique la photosynthèse des plantes ?"
    assert len(quotes(ask(question, *facts, small=True))) <= len(quotes(ask(question, *facts)))


def test_the_budget_ends_the_answer_after_a_whole_sentence():
    text = ask("Que fabrique la photosynthèse ?", BIOLOGY, BIOLOGY.replace("glucose", "sucre rare"), max_tokens=1)
    assert len(quotes(text)) == 1


def test_a_very_long_sentence_is_cut_at_a_word():
    long = "La photosynthèse fabrique " + " et ".join(f"le produit {number}" for number in range(80)) + "."
    quote, _ = quotes(ask("Que fabrique la photosynthèse ?", long))[0]
    assert len(quote) <= LONGEST_QUOTE_CHARACTERS
    assert f"{quote} " in long


def test_other_languages_are_answered_in_french():
    assert phrases(Language.OTHER) is FRENCH
