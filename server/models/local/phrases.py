"""The few words the local provider says itself, in the language of the answer; everything else is quoted."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from server.text.language import Language


@dataclass(frozen=True, slots=True)
class Phrases:
    """Sentence frames of one language. Those of an answer carry a quotation, so that each sentence can cite."""

    lead: str
    lead_closest: str
    lead_silent: str
    lead_foreign: str
    more: str
    nothing: str
    language_names: Mapping[Language, str]
    true: str
    false: str
    fill_gap: str
    choose: str
    choose_all: str
    is_true: str
    name_it: str
    give_number: str
    the_text_says: str


FRENCH: Final = Phrases(
    lead="Voici ce que disent les passages trouvés : {quote} [{number}].",
    lead_closest="Aucun passage ne répond directement ; le plus proche dit : {quote} [{number}].",
    lead_silent="Aucun passage trouvé ne répond au sujet de : {words} ; le plus proche dit : {quote} [{number}].",
    lead_foreign="Les passages trouvés sont en {language}{terms} et je les cite tels quels : {quote} [{number}].",
    more="On y lit aussi : {quote} [{number}].",
    nothing="Je n'ai trouvé aucun passage sur cette question.",
    language_names=MappingProxyType(
        {Language.FRENCH: "français", Language.ARABIC: "arabe", Language.HASSANIYA: "hassaniya"}
    ),
    true="Vrai",
    false="Faux",
    fill_gap="Complétez : « {text} »",
    choose="Quel mot ou quelle valeur complète cette phrase : « {text} » ?",
    choose_all="Lesquelles de ces affirmations sont vraies d'après le texte ?",
    is_true="Vrai ou faux : « {text} »",
    name_it="De quoi s'agit-il dans cette phrase, à la place des points : « {text} » ?",
    give_number="Quelle valeur manque dans cette phrase : « {text} » ?",
    the_text_says="Le texte dit : « {quote} »",
)

ARABIC: Final = Phrases(
    lead="هذا ما تقوله المقاطع التي عثرنا عليها: {quote} [{number}].",
    lead_closest="لا يوجد مقطع يجيب مباشرة، وأقربها يقول: {quote} [{number}].",
    lead_silent="لا يوجد مقطع يجيب عن: {words}، وأقربها يقول: {quote} [{number}].",
    lead_foreign="المقاطع التي عثرنا عليها مكتوبة ب{language}{terms} وننقلها كما هي: {quote} [{number}].",
    more="وجاء فيها أيضا: {quote} [{number}].",
    nothing="لم أعثر على أي مقطع حول هذا السؤال.",
    language_names=MappingProxyType(
        {Language.FRENCH: "الفرنسية", Language.ARABIC: "العربية", Language.HASSANIYA: "الحسانية"}
    ),
    true="صحيح",
    false="خطأ",
    fill_gap="أكمل: « {text} »",
    choose="ما الكلمة أو القيمة التي تكمل هذه الجملة: « {text} »؟",
    choose_all="أي هذه العبارات صحيحة حسب النص؟",
    is_true="صحيح أم خطأ: « {text} »",
    name_it="عم تتحدث هذه الجملة مكان النقاط: « {text} »؟",
    give_number="ما القيمة الناقصة في هذه الجملة: « {text} »؟",
    the_text_says="جاء في النص: « {quote} »",
)

HASSANIYA: Final = Phrases(
    lead="هذا الي كالت الدروس الي جبرنا: {quote} [{number}].",
    lead_closest="ما جبرنا مقطع يجاوب طول، واكرب شي هو: {quote} [{number}].",
    lead_silent="ما جبرنا مقطع يجاوب عن: {words}، واكرب شي هو: {quote} [{number}].",
    lead_foreign="الدروس الي جبرنا مكتوبة ب{language}{terms} وذا نصها: {quote} [{number}].",
    more="وفيهم بعد: {quote} [{number}].",
    nothing="ما جبرت شي عن ذا السؤال.",
    language_names=MappingProxyType(
        {Language.FRENCH: "الفرنسية", Language.ARABIC: "العربية", Language.HASSANIYA: "الحسانية"}
    ),
    true="صحيح",
    false="ماهو صحيح",
    fill_gap="كمل: « {text} »",
    choose="شنهي الكلمة ولا القيمة الي تكمل ذي الجملة: « {text} »؟",
    choose_all="شنهي العبارات الصحيحة من ذو حسب النص؟",
    is_true="صحيح ولا ماهو صحيح: « {text} »",
    name_it="عن شنهو تتكلم ذي الجملة ف بلاصة النقاط: « {text} »؟",
    give_number="شنهي القيمة الناقصة ف ذي الجملة: « {text} »؟",
    the_text_says="كال النص: « {quote} »",
)


ENGLISH: Final = Phrases(
    lead="The passages found say: {quote} [{number}].",
    lead_closest="No passage answers this directly; the nearest one says: {quote} [{number}].",
    lead_silent="No passage answers about: {words}; the nearest one says: {quote} [{number}].",
    lead_foreign="The passages found are in {language}{terms} and are quoted as they are: {quote} [{number}].",
    more="They also say: {quote} [{number}].",
    nothing="I found no passage about this question.",
    language_names=MappingProxyType(
        {Language.FRENCH: "French", Language.ARABIC: "Arabic", Language.HASSANIYA: "Hassaniya"}
    ),
    true="True",
    false="False",
    fill_gap="Complete: « {text} »",
    choose="Which word or value completes this sentence: « {text} »?",
    choose_all="Which of these statements are true according to the text?",
    is_true="True or false: « {text} »",
    name_it="What does this sentence speak of in place of the dots: « {text} »?",
    give_number="Which value is missing in this sentence: « {text} »?",
    the_text_says="The text says: « {quote} »",
)


def phrases(language: Language) -> Phrases:
    """Return the frames of a language: English where it is none of the three, as who asks in another one reads it."""
    return {
        Language.FRENCH: FRENCH,
        Language.ARABIC: ARABIC,
        Language.HASSANIYA: HASSANIYA,
    }.get(language, ENGLISH)
