"""Settings: bounds that are told in one line that names them, and secrets that come from files."""

import pytest

from server.config import SettingsError, given_names, load, misspelt

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
        ("BACMR_SOURCE_HOSTS", "https://cours.example.mr/maths"),
        ("BACMR_SOURCE_HOSTS", "cours.example.mr other.mr"),
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


@pytest.mark.parametrize("hosts", ["cours.example.mr, intranet:8080", "[::1]:8080", "127.0.0.1:80", ""])
def test_hosts_of_sources_are_names_with_or_without_a_port(monkeypatch, hosts):
    monkeypatch.setenv("BACMR_SOURCE_HOSTS", hosts)
    assert ", ".join(load().source_hosts) == hosts


def test_a_folder_of_secrets_that_is_not_there_stops_the_start(monkeypatch, tmp_path):
    monkeypatch.setenv("BACMR_SECRETS_DIR", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=r"^BACMR_SECRETS_DIR: [^\n]+ is not a folder$"):
        load()


def test_a_name_that_sets_nothing_is_told_with_the_one_that_is_meant(monkeypatch, tmp_path):
    monkeypatch.setenv("BACMR_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("BACMR_DATABSE_URL", "postgresql://db/bacmr")
    (tmp_path / "bacmr_milvus_tokn").write_text("root:secret")
    found = misspelt(given_names())
    assert found["BACMR_DATABSE_URL"] == "BACMR_DATABASE_URL"
    assert found["BACMR_MILVUS_TOKN"] == "BACMR_MILVUS_TOKEN"


def test_settings_and_what_else_is_called_so_are_not_told():
    known = {"BACMR_DATABASE_URL", "BACMR_EMAIL", "BACMR_SECRETS_DIR", "OPENAI_API_KEY", "HOME"}
    assert misspelt(known | {"BACMR_WEB_SERVICE_HOST", "BACMR_GRPC_PORT_50051_TCP_ADDR", "BACMR_WEB_PORT"}) == {}
