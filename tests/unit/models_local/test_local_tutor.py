"""The local tutor: streams that end well, translation through the glossary, follow-ups that stand alone."""

import pytest

from server.models.local.tutor import LocalTutor
from server.models.port import AnswerTask, Finished, FinishReason, ProviderFailure, QuizTask, Source, TextDelta, Turn
from server.text.language import Language
from server.text.tokens import count

SOURCE = Source(1, "La photosynthèse fabrique du glucose dans les feuilles des plantes vertes.", "Biologie", 3)
ANSWER = AnswerTask("Que fabrique la photosynthèse ?", (SOURCE,), Language.FRENCH, 200)
QUIZ = QuizTask("photosynthèse", (SOURCE,), Language.FRENCH, 3, (), "easy", 500)


@pytest.fixture
def tutor():
    return LocalTutor()


async def test_an_answer_ends_with_its_usage(tutor):
    *deltas, last = [event async for event in tutor.answer(ANSWER)]
    text = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
    assert isinstance(last, Finished)
    assert last.reason is FinishReason.STOP
    assert last.usage.counted_here
    assert last.usage.completion_tokens >= count(text)
    assert last.usage.prompt_tokens == tutor.prompt_tokens(ANSWER)


async def test_a_quiz_ends_with_its_usage(tutor):
    *drafts, last = [event async for event in tutor.quiz(QUIZ)]
    assert drafts
    assert isinstance(last, Finished)


async def test_a_quiz_keeps_within_its_tokens(tutor):
    (last,) = [event async for event in tutor.quiz(QuizTask("", (SOURCE,), Language.FRENCH, 3, (), "easy", 1))]
    assert isinstance(last, Finished)


async def test_translation_goes_through_the_glossary(tutor):
    assert "تركيب ضوئي" in await tutor.translate("Définir la photosynthèse", Language.FRENCH, Language.ARABIC)


async def test_what_the_glossary_does_not_know_fails_for_good(tutor):
    with pytest.raises(ProviderFailure) as failure:
        await tutor.translate("bonjour à tous", Language.FRENCH, Language.ARABIC)
    assert not failure.value.transient


async def test_a_text_in_the_wanted_language_stays(tutor):
    assert await tutor.translate("bonjour", Language.FRENCH, Language.FRENCH) == "bonjour"


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Et son rôle ?", "Qu'est-ce que la photosynthèse des plantes ? Et son rôle ?"),
        ("pourquoi ?", "Qu'est-ce que la photosynthèse des plantes ? pourquoi ?"),
        ("Quelle est la masse molaire du glucose pur ?", "Quelle est la masse molaire du glucose pur ?"),
    ],
)
async def test_a_follow_up_is_put_behind_what_it_follows(tutor, question, expected):
    history = [Turn("Qu'est-ce que la photosynthèse des plantes ?", "…"), Turn("et ensuite ?", "…")]
    assert await tutor.standalone(question, history) == expected


async def test_an_arabic_follow_up_leans_on_the_question_before(tutor):
    history = [Turn("ما هي وظيفة القلب في الجسم؟", "…")]
    assert await tutor.standalone("وما دوره؟", history) == "ما هي وظيفة القلب في الجسم؟ وما دوره؟"


async def test_a_first_question_stands_alone(tutor):
    assert await tutor.standalone("pourquoi ?", []) == "pourquoi ?"


async def test_reranking_scores_each_text(tutor):
    scores = await tutor.rerank("glucose", ["Du glucose.", "Du fer."])
    assert scores[0] > scores[1]


def test_it_is_free_and_has_a_name(tutor):
    assert tutor.free
    assert tutor.name == "local"
