"""Answers that quote: exact words, a citation on every sentence, honesty about what is missing."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.models.local.answerer import LONGEST_QUOTE_CHARACTERS, answer
from server.models.local.phrases import ARABIC, ENGLISH, FRENCH, HASSANIYA
from server.models.port import AnswerTask, Source, Turn
from server.text.glossary import render
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


def ask(question, *texts, language=Language.FRENCH, max_tokens=500, small=False, after="", title="Livre {}"):
    sources = tuple(Source(number, text, title.format(number), 1) for number, text in enumerate(texts, start=1))
    history = (Turn(after, "…"),) if after else ()
    return "".join(answer(AnswerTask(f"{after} {question}".strip(), sources, language, max_tokens, history, small)))


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


def test_a_place_that_says_a_sentence_twice_is_cited_once():
    text = ask("Que fabrique la photosynthèse ?", BIOLOGY, BIOLOGY, title="Livre")
    assert text.count("fabriquer du glucose") == 1
    assert "][" not in text


def test_a_sentence_cut_by_its_passage_is_quoted_whole():
    whole = "Nouakchott, fondée en 1958 près de l'océan, devint la capitale de la Mauritanie indépendante."
    text = ask("Quelle est la capitale de la Mauritanie ?", whole[12:], whole)
    assert [quote for quote, _ in quotes(text.replace("][", "] ["))] == [whole[:-1]]


def test_sentences_that_differ_in_a_figure_are_not_one():
    facts = "La première bataille eut lieu en 1905.", "La première bataille eut lieu en 1932."
    assert len(quotes(ask("Quand eut lieu la première bataille ?", *facts))) == 2


LAWS = (
    "2. Première loi de Kepler\nLes planètes décrivent des ellipses dont le Soleil occupe un foyer.\n\n"
    "3. Deuxième loi de Kepler\nLe rayon qui joint une planète au Soleil balaie des aires égales en des temps égaux.\n\n"
    "4. Troisième loi de Kepler\nLe carré de la période est proportionnel au cube du demi-grand axe."
)
CONDITIONS = (
    "للزكاة شروط معروفة. فالشرط الأول هو الإسلام ولا تجب على غير المسلم. والشرط الثاني هو بلوغ المال قدرا معلوما. "
    "والشرط الثالث هو مرور سنة كاملة على الملك."
)


@pytest.mark.parametrize(
    ("after", "question", "text", "said"),
    [
        ("Quelles sont les lois de Kepler ?", "Et la troisième ?", LAWS, "cube"),
        ("Quelles sont les lois de Kepler ?", "et la 2e ?", LAWS, "aires"),
        ("Quelle est la deuxième loi de Kepler ?", "Et la première ?", LAWS, "ellipses"),
        ("", "Que dit la loi n° 3 de Kepler ?", LAWS, "cube"),
        ("ما هي شروط الزكاة؟", "والثالث؟", CONDITIONS, "سنة كاملة"),
        ("ما هي شروط الزكاة؟", "وما هو الشرط الثاني؟", CONDITIONS, "قدرا معلوما"),
    ],
)
def test_the_one_of_several_that_is_asked_for_is_quoted_alone(after, question, text, said):
    answered = quotes(ask(question, text, after=after))
    assert said in answered[0][0]
    others = {"ellipses", "aires", "cube", "الإسلام", "قدرا معلوما", "سنة كاملة"} - {said}
    assert not any(other in quote for quote, _ in answered for other in others)


@pytest.mark.parametrize(
    ("question", "text", "told"),
    [
        ("Quelles sont les lois de Kepler ?", LAWS, ["ellipses", "aires", "cube"]),
        ("ما هي شروط الزكاة؟", CONDITIONS, ["الإسلام", "قدرا معلوما", "سنة كاملة"]),
    ],
)
def test_a_row_is_told_in_its_order(question, text, told):
    answered = [quote for quote, _ in quotes(ask(question, text))]
    assert len(answered) == len(told)
    assert all(said in quote for said, quote in zip(told, answered, strict=True))


UNION = (
    "انضمت تونس إلى الأمم المتحدة سنة 1956. وكانت تونس محمية فرنسية منذ 1881. "
    "وبعد مفاوضات طويلة أعلن استقلالها في 20 مارس 1956 واعترفت به فرنسا."
)


@pytest.mark.parametrize(
    ("question", "language"), [("متى استقلت تونس؟", Language.ARABIC), ("امتين استقلت تونس؟", Language.HASSANIYA)]
)
def test_the_date_of_what_is_asked_goes_before_other_dates_of_the_same_country(question, language):
    assert "استقلالها" in quotes(ask(question, UNION, language=language))[0][0]


def test_a_follow_up_is_answered_rather_than_the_question_before_it():
    facts = "La Mauritanie devint indépendante le 28 novembre 1960. Sa capitale, Nouakchott, est près de l'océan."
    text = ask("Et sa capitale ?", facts, after="Quand la Mauritanie devint-elle indépendante ?")
    assert "Nouakchott" in quotes(text)[0][0]


def test_an_exercise_that_asks_the_same_is_no_answer():
    text = ask(
        "Définir une réaction acide", "Montrer que la réaction est acide. Une réaction acide libère des ions H⁺."
    )
    assert [quote for quote, _ in quotes(text)] == ["Une réaction acide libère des ions H⁺"]


def test_an_exercise_that_says_more_of_the_question_does_not_keep_the_answer_back():
    text = ask(
        "Qu'est-ce que le cycle du carbone ?", "Expliquer le cycle du carbone. Le carbone circule de l'air aux plantes."
    )
    assert [quote for quote, _ in quotes(text)] == ["Le carbone circule de l'air aux plantes"]


def test_a_question_carried_into_another_language_is_answered_directly():
    text = ask("شنهي الطاقة الحركية؟", "L'énergie cinétique d'un solide vaut ½ m v².", language=Language.HASSANIYA)
    assert text.startswith(HASSANIYA.lead_foreign.split("{")[0])


def silent_on(words, frames):
    return frames.lead_silent.split("{quote}")[0].replace("{words}", words)


FRANCE = "وانتخب نائبا في البرلمان الفرنسي. ثم أعلن استقلال موريتانيا سنة 1960، واتخذت نواكشوط عاصمة لها."


@pytest.mark.parametrize(
    ("question", "words", "source", "frames", "language"),
    [
        ("Quelle est la capitale de la Mauritanie et son hymne ?", "hymne", HISTORY, FRENCH, Language.FRENCH),
        ("Quelle est la capitale de la Bolivie ?", "Bolivie", HISTORY, FRENCH, Language.FRENCH),
        ("Où a lieu la fermentation ?", "fermentation", BIOLOGY, FRENCH, Language.FRENCH),
        ("Quel est le prix du cuivre à Londres ?", "cuivre, Londres", BIOLOGY, FRENCH, Language.FRENCH),
        ("ما هي عاصمة تونس؟", "تونس", FRANCE, ARABIC, Language.ARABIC),
        ("ما هي عاصمة فرنسا؟", "فرنسا", FRANCE, ARABIC, Language.ARABIC),
        ("متى أعلن المغرب استقلال موريتانيا؟", "المغرب", FRANCE, ARABIC, Language.ARABIC),
        ("شنهي عاصمة تونس؟", "تونس", FRANCE, HASSANIYA, Language.HASSANIYA),
        ("Quelle est la capitale de la France ?", "France", FRANCE, FRENCH, Language.FRENCH),
    ],
)
def test_a_sentence_that_is_not_of_what_is_asked_is_called_the_nearest(question, words, source, frames, language):
    assert ask(question, source, language=language).startswith(silent_on(words, frames))


@pytest.mark.parametrize(
    ("question", "source", "frames", "language"),
    [
        ("Quelle est la capitale de la Mauritanie ?", HISTORY, FRENCH.lead, Language.FRENCH),
        ("Quelle est la capitale mauritanienne ?", HISTORY, FRENCH.lead, Language.FRENCH),
        ("ما هي عاصمة موريتانيا؟", FRANCE, ARABIC.lead, Language.ARABIC),
        ("أي مدينة صارت عاصمة لموريتانيا؟", FRANCE, ARABIC.lead, Language.ARABIC),
        ("Quelle est la capitale de la Mauritanie ?", FRANCE, FRENCH.lead_foreign, Language.FRENCH),
        ("Quelle ville est devenue capitale sous le nom de Nouakchott ?", FRANCE, FRENCH.lead_foreign, Language.FRENCH),
    ],
)
def test_what_is_asked_may_stand_in_any_form_script_or_language(question, source, frames, language):
    assert ask(question, source, language=language).startswith(frames.split("{")[0])


def test_sentences_about_another_thing_are_left_where_one_is_about_what_is_asked():
    texts = "Nouakchott est la capitale de la Mauritanie depuis 1958.", "Dakar est la capitale du Sénégal depuis 1958."
    assert [number for _, number in quotes(ask("Depuis quand Dakar est-elle la capitale du Sénégal ?", *texts))] == [2]


@pytest.mark.parametrize("asking", ["chenhu", "shnuwa", "Kifash"])
def test_a_question_word_typed_in_latin_letters_is_not_named_as_missing(asking):
    law = "La loi de Newton dit que la force est le produit de la masse par l'accélération du corps."
    text = ask(f"{asking} 9anun newton 3la ettuffa7a?", law, language=Language.HASSANIYA)
    assert quotes(text)
    assert asking not in text


def test_the_nearest_passage_is_called_so():
    text = ask("Pourquoi voyager longtemps partout et vivre bien ?", BIOLOGY)
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


def test_a_question_in_another_language_is_answered_in_english():
    text = ask("What is photosynthesis?", BIOLOGY, language=Language.OTHER)
    assert text.startswith(ENGLISH.lead_foreign.replace("{language}", "French").split("{")[0])
    assert "What" not in text


def test_a_question_in_latin_letters_is_answered_from_arabic_texts():
    text = ask(
        "Emteyn tem inchaa elma7dhara elkoubra?", UNION, "أنشئت المحظرة الكبرى سنة 1840.", language=Language.HASSANIYA
    )
    assert quotes(text)[0] == ("أنشئت المحظرة الكبرى سنة 1840", 2)
    assert text.startswith(HASSANIYA.lead.split("{")[0])


@pytest.mark.parametrize(
    ("question", "said"),
    [("What is photosynthesis?", "glucose"), ("When did Mauritania become independent?", "1960")],
)
def test_school_terms_in_english_find_their_answer(question, said):
    text = ask(question, HISTORY, BIOLOGY, language=Language.OTHER)
    assert said in quotes(text)[0][0]
    assert text.startswith(ENGLISH.lead_foreign.split("{")[0])


def test_a_name_in_english_that_no_passage_says_is_named():
    text = ask("What is the capital of Bolivia?", HISTORY, language=Language.OTHER)
    assert text.startswith(silent_on("Bolivia", ENGLISH))


@pytest.mark.parametrize(
    ("question", "source"),
    [
        ("شنهي القوه؟", "La force est une action mécanique qui modifie le mouvement."),
        ("3lach netlbu el7a9i9a?", "نطلب الحقيقة لأنها شرط الحوار والعدل."),
    ],
)
def test_a_word_is_said_by_any_of_its_meanings_and_spellings(question, source):
    text = ask(question, source, language=Language.HASSANIYA)
    assert not text.startswith(HASSANIYA.lead_silent.split("{")[0])


@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from(list(Language)))
def test_any_question_is_answered(question, after, language):
    assert ask(question, HISTORY, CELL, language=language, after=after)


def test_a_question_of_many_names_is_searched_with_a_limited_number_of_spellings():
    text = " ".join(f"Nom{letter * 3}ame" for letter in "abcdefghijklmnopqrstuvwxyz" * 20)
    assert len(render(f"Qui sont {text} ?", Language.FRENCH, Language.ARABIC).search.split()) < 1_000
