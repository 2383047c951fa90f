"""What the wallet's values say by themselves."""

from datetime import UTC, datetime

import pytest

from server.wallet.report import Check, report
from server.wallet.reservation import Balance

NOW = datetime(2026, 5, 1, tzinfo=UTC)
RIGHT = Check("one", True, "nothing found")
WRONG = Check("two", False, "1 found", 1)


def test_posted_is_available_and_held_together():
    assert Balance(available_tokens=70, held_tokens=30).posted_tokens == 100


@pytest.mark.parametrize(("checks", "ok"), [((RIGHT,), True), ((RIGHT, WRONG), False), ((), False)])
def test_a_report_is_right_when_every_check_is_and_there_are_some(checks, ok):
    assert report(checks, NOW, {}, "").ok is ok
