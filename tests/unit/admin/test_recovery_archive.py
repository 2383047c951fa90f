"""Encrypted frames: nothing can be cut, moved, doubled or changed unseen; a gzip stream that was cut is refused."""

import os

import pytest

from server.admin.recovery.archive import FRAME_BYTES, Keys, Opener, Packer, Sealer, Unpacker
from server.refusal import ExportInvalid

KEY = b"k" * 32
FRAME = FRAME_BYTES + 16
SIZES = (0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES, 3 * FRAME_BYTES + 7)


def seal(data: bytes, key: bytes = KEY, piece: int = 100_000) -> bytes:
    sealer = Sealer(key)
    return b"".join(sealer.add(data[at : at + piece]) for at in range(0, len(data), piece)) + sealer.end()


def open_sealed(data: bytes, key: bytes = KEY, piece: int = 70_001) -> bytes:
    opener = Opener(key)
    return b"".join(opener.add(data[at : at + piece]) for at in range(0, len(data), piece)) + opener.end()


@pytest.mark.parametrize("size", SIZES)
def test_what_was_sealed_opens(size: int) -> None:
    data = os.urandom(size)
    assert open_sealed(seal(data)) == data


@pytest.mark.parametrize("size", SIZES)
def test_no_byte_of_a_short_run_is_left_plain(size: int) -> None:
    data = b"a" * size
    assert b"aaaa" not in seal(data)


SEALED = seal(b"x" * (3 * FRAME_BYTES + 7))


@pytest.mark.parametrize(
    "changed",
    [
        SEALED[:-1],
        SEALED[:FRAME],
        SEALED[: 2 * FRAME],
        SEALED[: 3 * FRAME],
        SEALED[FRAME:],
        b"",
        SEALED[FRAME : 2 * FRAME] + SEALED[:FRAME] + SEALED[2 * FRAME :],
        SEALED[:FRAME] + SEALED[:FRAME] + SEALED[2 * FRAME :],
        SEALED[:FRAME] + SEALED,
        SEALED + b"x",
        SEALED[:5] + bytes([SEALED[5] ^ 1]) + SEALED[6:],
        SEALED[:-1] + bytes([SEALED[-1] ^ 1]),
    ],
)
def test_cut_moved_doubled_and_changed_frames_are_refused(changed: bytes) -> None:
    with pytest.raises(ExportInvalid):
        open_sealed(changed)


def test_another_key_opens_nothing() -> None:
    with pytest.raises(ExportInvalid):
        open_sealed(SEALED, b"j" * 32)


def test_each_file_of_each_export_has_a_key_of_its_own() -> None:
    first, second = Keys("secret", b"1" * 16), Keys("secret", b"2" * 16)
    keys = {first.of("wallet"), first.of("chunk"), second.of("wallet"), Keys("other", b"1" * 16).of("wallet")}
    assert len(keys) == 4
    assert first.of("wallet") == Keys("secret", b"1" * 16).of("wallet")


def packed(data: bytes) -> bytes:
    packer = Packer()
    return packer.add(data) + packer.end()


def unpack(data: bytes) -> bytes:
    unpacker = Unpacker()
    found = b"".join(unpacker.add(data))
    unpacker.end()
    return found


def test_what_was_packed_unpacks() -> None:
    data = os.urandom(100_000) + b"a" * 100_000
    assert unpack(packed(data)) == data


@pytest.mark.parametrize("changed", [packed(b"abc" * 1000)[:-3], packed(b"abc") + b"x", b"abc", b""])
def test_a_cut_or_foreign_gzip_is_refused(changed: bytes) -> None:
    with pytest.raises(ExportInvalid):
        unpack(changed)


def test_a_hostile_gzip_unpacks_in_pieces() -> None:
    pieces = Unpacker().add(packed(bytes(200_000_000)))
    assert max(map(len, pieces)) <= 17_000_000
