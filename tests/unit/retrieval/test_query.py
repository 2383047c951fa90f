"""The language of what is asked."""

import pytest

from server.retrieval.query import detect_next
from server.text.language import Language


@pytest.mark.parametrize(
    ("earlier", "question", "language"),
    [
        ("شنهي قوانين نيوتن؟", "والثالث؟", Language.HASSANIYA),
        ("ما هي قوانين نيوتن؟", "والثالث؟", Language.ARABIC),
        ("Quelles sont les lois de Newton ?", "la 3 ?", Language.FRENCH),
        ("Quelles sont les lois de Newton ?", "والثالث؟", Language.ARABIC),
        ("Quelles sont les lois de Newton ?", "What is the third law of Newton?", Language.OTHER),
    ],
)
def test_a_short_follow_up_is_in_the_language_of_the_question_before(earlier, question, language):
    assert detect_next(question, [earlier]).language is language


def test_a_first_question_speaks_for_itself():
    assert detect_next("والثالث؟", []).language is Language.ARABIC
