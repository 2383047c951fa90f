"""The weekly export runs where the owner's login is known."""

from types import SimpleNamespace

import pytest

from server.app.recovery import furnish_recovery
from server.app.schedule import long_schedule
from server.config import load


def stores() -> SimpleNamespace:
    return SimpleNamespace(database=None, database_url="", owner_url="", vectors=None, blobs=None, tickets=None)


@pytest.mark.parametrize(
    ("urls", "runs"),
    [
        ({}, True),
        ({"database_url": "postgresql://server@host/bacmr"}, False),
        (
            {"database_url": "postgresql://server@host/bacmr", "database_owner_url": "postgresql://owner@host/bacmr"},
            True,
        ),
    ],
)
def test_the_weekly_export_runs_where_the_owners_login_is_known(urls: dict[str, str], runs: bool) -> None:
    recovery = furnish_recovery(load(**urls), stores(), None)
    planned = long_schedule(recovery)
    assert [job.every for job in planned if job.name == "export_data"] == (["0 3 * * 0"] if runs else [])
