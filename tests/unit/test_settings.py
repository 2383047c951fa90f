"""Settings: bounds that are told in one line that names them, and secrets that come from files."""

import pytest

from server.config import SettingsError, load

SECRET = "a secret of bankily and of ours!"


@pytest.mark.parametrize("seconds", [30, 3_600])
def test_a_sensible_life_of_a_reservation_is_taken(seconds):
    assert load(reservation_ttl_seconds=seconds).reservation_ttl_seconds == seconds


@pytest.mark.parametrize("seconds", ["29", "3601", "0", "-1", "soon"])
def test_any_other_is_refused_by_name(monkeypatch, seconds):
    monkeypatch.setenv("BACMR_RESERVATION_TTL_SECONDS", seconds)
    with pytest.raises(SettingsError, match=r"^BACMR_RESERVATION_TTL_SECONDS: [^\n]+$"):
        load()


def test_secrets_of_providers_come_from_the_environment_or_from_a_file(monkeypatch, tmp_path):
    (tmp_path / "bacmr_top_up_secrets").write_text(f'{{"bankily": "{SECRET}"}}\n')
    assert load(_secrets_dir=tmp_path).top_up_secrets["bankily"].get_secret_value() == SECRET
    monkeypatch.setenv("BACMR_TOP_UP_SECRETS", f'{{"masrvi": "{SECRET}"}}')
    assert load().top_up_secrets["masrvi"].get_secret_value() == SECRET


@pytest.mark.parametrize("given", ['{"bankily": "short"}', f'{{"Bank ily": "{SECRET}"}}', "[]", "{"])
def test_secrets_that_cannot_be_are_refused_by_name_and_not_shown(monkeypatch, given):
    monkeypatch.setenv("BACMR_TOP_UP_SECRETS", given)
    with pytest.raises(SettingsError, match=r"^BACMR_TOP_UP_SECRETS: [^\n]+$") as refused:
        load()
    assert "short" not in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("setting", "given"),
    [
        ("BACMR_REDIS_URL", "localhost:6379"),
        ("BACMR_DATABASE_URL", "bacmr@db"),
        ("BACMR_DATABASE_OWNER_URL", "mysql://db/bacmr"),
        ("BACMR_MILVUS_URI", "milvus:19530"),
        ("BACMR_BOOTSTRAP_ADMIN_EMAIL", "nobody"),
        ("BACMR_BOOTSTRAP_ADMIN_PASSWORD", "short"),
        ("BACMR_GRPC_LISTEN", "nowhere"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name_and_not_shown(monkeypatch, setting, given):
    monkeypatch.setenv(setting, given)
    with pytest.raises(SettingsError, match=rf"^{setting}: must [^\n]+$") as refused:
        load()
    assert given not in str(refused.value)


@pytest.mark.parametrize(
    ("setting", "given", "other"),
    [
        ("BACMR_BOOTSTRAP_ADMIN_EMAIL", "admin@example.org", "BACMR_BOOTSTRAP_ADMIN_PASSWORD"),
        ("BACMR_TLS_CERT_FILE", "/etc/cert.pem", "BACMR_TLS_KEY_FILE"),
        ("BACMR_CHUNK_OVERLAP_ARABIC", "384", "BACMR_CHUNK_TOKENS_ARABIC"),
    ],
)
def test_settings_that_do_not_go_together_are_both_named(monkeypatch, setting, given, other):
    monkeypatch.setenv(setting, given)
    with pytest.raises(SettingsError, match=rf"^{setting} [^\n]+{other}") as refused:
        load()
    assert "\n" not in str(refused.value)
