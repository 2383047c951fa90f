"""Tokens counted offline, and boundaries that never cut a character."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.text.tokens import boundaries, count, encoding


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("hello world", [15339, 1917]),
        ("tiktoken is great!", [83, 1609, 5963, 374, 2294, 0]),
        ("", []),
    ],
)
def test_the_encoding_is_that_of_openai(text, tokens):
    assert encoding().encode_ordinary(text) == tokens


def test_special_markup_in_a_text_is_plain_text():
    assert count("<|endoftext|>") > 1


@given(st.text(max_size=120) | st.text("الطاقة é🙂 a", max_size=60))
def test_boundaries_run_from_the_first_to_the_last_character(text):
    found = boundaries(text)
    assert len(found) == count(text) + 1
    assert found[0] == 0
    assert found[-1] == len(text)
    assert all(before <= after for before, after in pairwise(found.tolist()))


@given(st.text("الطاقة الحركية é🙂 a", max_size=60), st.data())
def test_a_cut_at_boundaries_loses_no_character(text, data):
    found = boundaries(text).tolist()
    middle = data.draw(st.sampled_from(found))
    assert text[:middle] + text[middle:] == text
    assert "\ufffd" not in text[:middle].encode().decode()


def test_whole_words_lie_between_boundaries():
    text = "The mass is 12 kg."
    pieces = [text[start:end] for start, end in pairwise(boundaries(text).tolist())]
    assert pieces == ["The", " mass", " is", " ", "12", " kg", "."]
