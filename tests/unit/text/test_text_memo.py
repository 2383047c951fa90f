"""What was worked out before is not worked out again, within bounds."""

from server.text.memo import Memo


def test_a_result_is_worked_out_once() -> None:
    asked: list[str] = []

    def length(word: str) -> int:
        asked.append(word)
        return len(word)

    lengths = Memo(length, 10)
    assert [lengths[word] for word in ("un", "deux", "un")] == [2, 4, 2]
    assert asked == ["un", "deux"]


def test_it_never_keeps_more_than_its_size() -> None:
    lengths = Memo(len, 3)
    for word in ("a", "bb", "ccc", "dddd", "a"):
        assert lengths[word] == len(word)
        assert len(lengths) <= 3


def test_what_will_not_come_again_is_not_kept() -> None:
    lengths: Memo[str, int] = Memo(len, 3, worth_keeping=lambda word: len(word) < 3)
    assert (lengths["un"], lengths["deux"]) == (2, 4)
    assert list(lengths) == ["un"]
