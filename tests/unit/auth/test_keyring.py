"""Signing keys: where they live, how they rotate, when they end."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from server.auth.keyring import RELOAD_SECONDS, UNKNOWN_KEY_SECONDS, Keyring, KeyringError

TTL = 900.0


@dataclass
class Clock:
    now: float = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "keys"


def opened(folder: Path, clock: Clock) -> Keyring:
    ring = Keyring(folder, TTL, clock)
    ring.open()
    return ring


def write_key(file: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    file.chmod(0o600)


def test_the_first_start_makes_a_key_that_only_its_owner_reads(folder: Path, clock: Clock) -> None:
    ring = opened(folder, clock)
    (file,) = folder.iterdir()
    assert file.stem == ring.signing_key().key_id
    assert (file.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_second_start_uses_the_same_key(folder: Path, clock: Clock) -> None:
    assert opened(folder, clock).signing_key().key_id == opened(folder, clock).signing_key().key_id


def test_a_rotated_key_verifies_until_its_last_token_has_expired(folder: Path, clock: Clock) -> None:
    ring = opened(folder, clock)
    old = ring.signing_key().key_id
    clock.now += 60
    new = ring.rotate()
    assert ring.signing_key().key_id == new
    clock.now += TTL + RELOAD_SECONDS - 1
    assert ring.key(old) is not None
    clock.now += 1
    assert ring.key(old) is None
    assert ring.key(new) is not None


def test_the_last_token_of_a_process_that_has_not_noticed_the_rotation_verifies_its_whole_life(
    folder: Path, clock: Clock
) -> None:
    one, other = opened(folder, clock), opened(folder, clock)
    clock.now += 1
    one.rotate()
    clock.now += RELOAD_SECONDS - 1.1
    late = other.signing_key().key_id
    clock.now += TTL
    assert one.key(late) is not None


def test_another_process_verifies_a_new_key_as_soon_as_it_meets_it(folder: Path, clock: Clock) -> None:
    one, other = opened(folder, clock), opened(folder, clock)
    clock.now += UNKNOWN_KEY_SECONDS
    assert other.key(one.rotate()) is not None


def test_another_process_signs_with_the_new_key_within_the_reload_time(folder: Path, clock: Clock) -> None:
    one, other = opened(folder, clock), opened(folder, clock)
    clock.now += 1
    new = one.rotate()
    clock.now += RELOAD_SECONDS
    assert other.signing_key().key_id == new


def test_a_key_whose_file_is_taken_away_ends(folder: Path, clock: Clock) -> None:
    ring = opened(folder, clock)
    old = ring.signing_key().key_id
    clock.now += 1
    ring.rotate()
    (folder / f"{old}.pem").unlink()
    clock.now += RELOAD_SECONDS
    assert ring.key(old) is None


def test_unknown_keys_do_not_make_us_read_the_folder_again_and_again(folder: Path, clock: Clock) -> None:
    ring = opened(folder, clock)
    clock.now += UNKNOWN_KEY_SECONDS
    assert ring.key("nobody's") is None
    write_key(folder / "zzz.pem", ec.generate_private_key(ec.SECP256R1()))
    assert [ring.key(f"unknown {number}") for number in range(50)] == [None] * 50
    assert ring.key("zzz") is None
    clock.now += UNKNOWN_KEY_SECONDS
    assert ring.key("zzz") is not None


@pytest.mark.parametrize(
    "key_id", ["../keys", "/etc/passwd", "..", "", "\x00", "https://thief.example/k", "k" * 10_000]
)
def test_a_hostile_key_id_is_only_an_unknown_one(folder: Path, clock: Clock, key_id: str) -> None:
    ring = opened(folder, clock)
    clock.now += UNKNOWN_KEY_SECONDS
    assert ring.key(key_id) is None


def test_the_key_set_lists_what_verifies_with_the_signing_key_first_and_no_private_part(
    folder: Path, clock: Clock
) -> None:
    ring = opened(folder, clock)
    old = ring.signing_key().key_id
    clock.now += 1
    new = ring.rotate()
    assert [key["kid"] for key in ring.jwks()] == [new, old]
    assert all(set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"} for key in ring.jwks())
    clock.now += TTL + RELOAD_SECONDS
    assert [key["kid"] for key in ring.jwks()] == [new]


def test_keys_of_an_operator_are_used_and_the_last_name_signs(folder: Path, clock: Clock) -> None:
    for name in ("2026-01", "2026-02"):
        write_key(folder / f"{name}.pem", ec.generate_private_key(ec.SECP256R1()))
        os.utime(folder / f"{name}.pem", (clock.now, clock.now))
    ring = opened(folder, clock)
    assert ring.signing_key().key_id == "2026-02"
    assert ring.key("2026-01") is not None


def test_a_rotation_that_would_not_sign_is_refused_and_leaves_nothing(folder: Path, clock: Clock) -> None:
    write_key(folder / "signing.pem", ec.generate_private_key(ec.SECP256R1()))
    ring = opened(folder, clock)
    with pytest.raises(KeyringError, match="signing"):
        ring.rotate()
    assert [file.name for file in folder.iterdir()] == ["signing.pem"]


def test_a_folder_that_breaks_while_we_run_leaves_the_keys_we_hold(folder: Path, clock: Clock) -> None:
    ring = opened(folder, clock)
    good = ring.signing_key().key_id
    (folder / "zzz.pem").write_text("half a key")
    clock.now += RELOAD_SECONDS
    assert ring.signing_key().key_id == good


@pytest.mark.parametrize(
    "content", [b"", b"not a key", b"\x00" * 20_000, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_file_that_is_no_key_stops_the_start_and_is_named(folder: Path, clock: Clock, content: bytes) -> None:
    folder.mkdir(parents=True)
    (folder / "broken.pem").write_bytes(content)
    with pytest.raises(KeyringError, match=r"broken\.pem") as error:
        opened(folder, clock)
    assert "\n" not in str(error.value)


def test_a_key_of_another_kind_stops_the_start(folder: Path, clock: Clock) -> None:
    write_key(folder / "rsa.pem", rsa.generate_private_key(65537, 2048))
    with pytest.raises(KeyringError, match="P-256"):
        opened(folder, clock)


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyringError, match="signing keys in"):
        opened(tmp_path / "file" / "keys", clock)


def test_all_keys_are_told_with_the_signing_one_last_and_none_is_made(folder: Path, clock: Clock) -> None:
    with pytest.raises(KeyringError, match=r"no \*\.pem file"):
        Keyring(folder, TTL, clock).signing_keys()
    first = opened(folder, clock).signing_key().key_id
    clock.now += 5
    second = Keyring(folder, TTL, clock).rotate()
    old, new = Keyring(folder, TTL, clock).signing_keys()
    assert (old.key_id, old.verifies_until) == (first, clock.now + TTL + RELOAD_SECONDS)
    assert (new.key_id, new.verifies_until) == (second, None)


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(folder: Path, clock: Clock) -> None:
    opened(folder, clock)
    ring = Keyring(folder, TTL, clock)
    clock.now += 1
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("root writes everywhere")
    with pytest.raises(KeyringError, match="Permission denied"):
        ring.rotate()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_key_that_root_adds_belongs_to_the_folders_owner(folder: Path, clock: Clock) -> None:
    opened(folder, clock)
    os.chown(folder, 12345, 12346)
    clock.now += 1
    made = folder / f"{Keyring(folder, TTL, clock).rotate()}.pem"
    assert (made.stat().st_uid, made.stat().st_gid, made.stat().st_mode & 0o777) == (12345, 12346, 0o600)
