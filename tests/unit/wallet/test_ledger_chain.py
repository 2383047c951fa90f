"""The chain of hashes, checked without the database that made it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from server.wallet.ledger import GENESIS, Entry, Kind, chained_hash, first_break

START = datetime(2026, 5, 1, 8, 0, 0, 123456, tzinfo=UTC)


def chain(length):
    user_id, entries, previous = uuid4(), [], GENESIS
    for sequence in range(1, length + 1):
        entry = Entry(
            user_id=user_id,
            sequence=sequence,
            kind=Kind.GRANT,
            debit_account="platform:grants",
            credit_account="user:available",
            amount_tokens=10,
            balance_after_tokens=10 * sequence,
            reservation_id=None,
            request_id=uuid4(),
            call_id=uuid4(),
            reason="welcome",
            created_at=START + timedelta(seconds=sequence),
            previous_hash=previous,
            hash="",
        )
        previous = chained_hash(previous, entry)
        entries.append(replace(entry, hash=previous))
    return entries


def test_an_untouched_chain_has_no_break():
    assert first_break(chain(5)) is None


def test_an_empty_chain_has_no_break():
    assert first_break([]) is None


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": UUID(int=1)},
        {"kind": Kind.VOUCHER},
        {"debit_account": "external:top_up"},
        {"credit_account": "user:held"},
        {"amount_tokens": 11},
        {"balance_after_tokens": 31},
        {"reservation_id": UUID(int=1)},
        {"request_id": UUID(int=1)},
        {"call_id": UUID(int=1)},
        {"reason": "Welcome"},
        {"created_at": START},
        {"sequence": 9},
        {"previous_hash": GENESIS},
        {"hash": GENESIS},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_field_breaks_the_chain_there(change):
    entries = chain(5)
    entries[2] = replace(entries[2], **change)
    assert first_break(entries) == 3


def test_a_missing_entry_breaks_the_chain_there():
    entries = chain(5)
    del entries[2]
    assert first_break(entries) == 3


def test_swapped_entries_break_the_chain_at_the_first():
    entries = chain(5)
    entries[1], entries[3] = entries[3], entries[1]
    assert first_break(entries) == 2


def test_an_entry_is_named_by_its_hash():
    one, other = chain(2)
    assert one.id.version == 8
    assert one.id == replace(one).id != other.id
