"""Every setting, read once; nothing else reads the environment.

Each setting is `BACMR_<NAME>`; secrets may also come from files named `bacmr_<name>` in `BACMR_SECRETS_DIR`.
"""

import difflib
import os
import pwd
import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableSetting

Positive = Annotated[int, Field(gt=0)]
_POSTGRES = ("postgresql://", "postgres://", "postgresql+psycopg://")
SCHEMES = {
    "database_url": _POSTGRES,
    "database_owner_url": _POSTGRES,
    "milvus_uri": ("http://", "https://", "tcp://", "unix:"),
    "redis_url": ("redis://", "rediss://", "unix://"),
}
"""What an address must start with; anything else ends as an exception of the store's driver."""
MAIL_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")
PLACE = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
"""A host of `source_hosts`, alone or with a port."""
ProviderName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
TOP_UP_SECRET_CHARACTERS = 32
CLIENT_VARIABLES = ("BACMR_SECRETS_DIR", "BACMR_TARGET", "BACMR_EMAIL", "BACMR_PASSWORD")
"""Read from the environment as well, but no settings of the server."""
SERVICE_LINK = re.compile(r"_(SERVICE_HOST|SERVICE_PORT|PORT)(_|$)")
"""What Kubernetes adds to the environment for each service of a namespace."""


def _long_enough(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < TOP_UP_SECRET_CHARACTERS:
        raise ValueError(f"must have at least {TOP_UP_SECRET_CHARACTERS} characters")
    return secret


class ProviderSettings(BaseModel):
    """One OpenAI-compatible endpoint of the fallback chain."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,32}$")]
    base_url: str = "https://api.openai.com/v1"
    model: str
    small_model: str = ""
    api_key: SecretStr = SecretStr("")
    token_param: Literal["max_tokens", "max_completion_tokens"] = "max_completion_tokens"
    supports_schema: bool = True
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 60.0


class IssuerSettings(BaseModel):
    """An external token issuer whose tokens are accepted (Supabase-style)."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    issuer: str
    audience: str = "authenticated"
    jwks_url: str = ""
    hs256_secret: SecretStr = SecretStr("")
    roles: tuple[Literal["student", "teacher", "admin", "service"], ...] = ("student", "teacher")
    """Roles that the issuer may grant through `app_metadata.role`; others count as student."""

    @model_validator(mode="after")
    def _one_way_to_verify(self) -> Self:
        if bool(self.jwks_url) == bool(self.hs256_secret.get_secret_value()):
            raise ValueError("give either jwks_url or hs256_secret")
        return self


def default_data_dir() -> Path:
    """Return the per-user data folder; for root a system one, because servers it starts run as another user."""
    if os.geteuid() == 0:
        return Path("/var/lib/bacmr")
    home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    return Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "bacmr"


class Settings(BaseSettings):
    """All settings with defaults that work without any of them."""

    model_config = SettingsConfigDict(
        env_prefix="BACMR_",
        secrets_dir=os.environ.get("BACMR_SECRETS_DIR") or None,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        env_ignore_empty=True,
    )

    # Where things are
    data_dir: Path = Field(default_factory=default_data_dir)
    grpc_listen: str = "127.0.0.1:50051"
    http_listen: str = "127.0.0.1:8080"
    http_public_url: str = ""
    """Address that clients reach the HTTP port under (for upload tickets); unset: made from http_listen."""
    worker_listen: str = ""
    """Address of the HTTP port of `bacmr worker`, for metrics and probes alone; unset: it has none."""
    processes: Positive = 1
    """Server processes on the two ports, beside a parent that keeps them up; each has its own pools and memory."""
    web_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins that browsers may call the HTTP port from, comma separated; the port's own pages always may."""
    trusted_proxies: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = (
        IPv4Network("127.0.0.0/8"),
        IPv6Network("::1/128"),
    )
    """Networks of proxies whose `x-forwarded-for` is believed on both ports, comma separated."""
    metrics_token: SecretStr = SecretStr("")
    """Bearer token that `/metrics/…` asks for; unset: whoever reaches the HTTP port may read the figures."""

    # TLS (files); plaintext is only allowed on loopback unless told
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = None
    """Set to require client certificates (mTLS) of all but probes."""
    allow_plaintext: bool = False

    # Stores
    database_url: SecretStr = SecretStr("")
    """postgresql://… of a login that may act as bacmr_app; unset: embedded PostgreSQL."""
    database_owner_url: SecretStr = SecretStr("")
    """Login for migrations; unset: database_url."""
    database_pool_size: Positive = 16
    milvus_uri: str = ""
    milvus_token: SecretStr = SecretStr("")
    redis_url: SecretStr = SecretStr("")
    blob_url: str = ""

    # Models
    model_providers: tuple[ProviderSettings, ...] = ()
    openai_api_key: SecretStr = Field(default=SecretStr(""), validation_alias="OPENAI_API_KEY")
    embedding_model: str = ""
    """OpenAI-compatible embedding model, or local-1024 or local-1536; unset: local-1024. A change takes a reindex."""
    embedding_base_url: str = "https://api.openai.com/v1"
    embedding_api_key: SecretStr = SecretStr("")
    embedding_dimensions: Annotated[int, Field(ge=64, le=4096)] = 1536
    breaker_failures: Positive = 3
    breaker_open_seconds: Annotated[float, Field(gt=0)] = 30.0

    # Identity
    jwt_issuer: str = "bacmr"
    jwt_audience: str = "bacmr"
    jwt_access_ttl_seconds: Positive = 900
    jwt_refresh_ttl_seconds: Positive = 90 * 86_400
    jwt_keys_dir: Path | None = None
    """Folder with our signing keys (PEM, newest name signs); unset: made on first start under data_dir."""
    jwt_external_issuers: tuple[IssuerSettings, ...] = ()
    bootstrap_admin_email: str = ""
    bootstrap_admin_password: SecretStr = SecretStr("")
    """8 to 128 characters, as for everybody."""

    # Money
    welcome_tokens: Annotated[int, Field(ge=0, le=1_000_000_000)] = 20_000
    reservation_ttl_seconds: Annotated[int, Field(ge=30, le=3_600)] = 300
    top_up_secrets: dict[ProviderName, Annotated[SecretStr, AfterValidator(_long_enough)]] = {}
    """JSON object of the secrets (at least 32 characters) that providers of mobile money sign their callbacks with, by
    provider, as in `{"bankily": "…"}`; a provider without one is not heard"""

    # Limits
    limits_paid_per_minute_free: Positive = 10
    limits_paid_per_minute_standard: Positive = 30
    limits_paid_per_minute_premium: Positive = 60
    limits_calls_per_minute: Positive = 600
    """All other calls, per user or address."""
    limits_sign_in_per_15_minutes: Positive = 5
    limits_open_answers: Positive = 3
    """Unfinished answers a user may have at once."""
    limits_upload_bytes: Positive = 200 * 1024 * 1024
    limits_message_bytes: Positive = 4 * 1024 * 1024
    limits_concurrent_streams: Positive = 2_000
    results_free: Positive = 10
    results_standard: Positive = 20
    results_premium: Positive = 30

    # Text
    chunk_tokens_french: Positive = 512
    chunk_overlap_french: Annotated[int, Field(ge=0)] = 64
    chunk_tokens_arabic: Positive = 384
    chunk_overlap_arabic: Annotated[int, Field(ge=0)] = 48

    # Work
    worker_concurrency: Annotated[int, Field(ge=0)] = 2
    operations_concurrency: Positive = 2
    extraction_timeout_seconds: Positive = 900
    extraction_memory_bytes: Positive = 2 * 1024**3
    extraction_max_pages: Positive = 2_000
    source_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Host names that sources may be fetched from, each with all hosts below it, on ports 80 and 443, comma separated;
    `host:port` allows one other port, or one place of an intranet, whose address may be private."""
    export_key: SecretStr = SecretStr("")
    """Set to encrypt exports with; any long random text, kept apart from them."""

    # Telemetry
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    otlp_endpoint: str = ""
    channelz: bool = False
    drain_seconds: Annotated[float, Field(ge=0)] = 10.0

    @field_validator("web_origins", "source_hosts", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("source_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(PLACE.fullmatch, value)):
            raise ValueError("must look like cours.example.mr, or intranet.lycee.mr:8080, without https:// and path")
        return value

    @field_validator("grpc_listen", "http_listen", "worker_listen")
    @classmethod
    def _address(cls, value: str, field: ValidationInfo) -> str:
        host, _, port = value.rpartition(":")
        if not value and field.field_name == "worker_listen":
            return value
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError("must look like 127.0.0.1:50051")
        return value

    @field_validator("database_url", "database_owner_url", "milvus_uri", "redis_url")
    @classmethod
    def _scheme(cls, value: Any, field: ValidationInfo) -> Any:
        given = value.get_secret_value() if isinstance(value, SecretStr) else value
        schemes = SCHEMES[field.field_name or ""]
        if given and not given.startswith(schemes):
            raise ValueError(f"must start with {', '.join(schemes)}")
        return value

    @field_validator("bootstrap_admin_email")
    @classmethod
    def _mail_address(cls, value: str) -> str:
        if value and not MAIL_ADDRESS.fullmatch(value):
            raise ValueError("must look like admin@example.org")
        return value

    @field_validator("bootstrap_admin_password")
    @classmethod
    def _password(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and not 8 <= len(value.get_secret_value()) <= 128:
            raise ValueError("must have 8 to 128 characters")
        return value

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise ValueError("BACMR_TLS_CERT_FILE and BACMR_TLS_KEY_FILE go together")
        if bool(self.bootstrap_admin_email) != bool(self.bootstrap_admin_password.get_secret_value()):
            raise ValueError("BACMR_BOOTSTRAP_ADMIN_EMAIL and BACMR_BOOTSTRAP_ADMIN_PASSWORD go together")
        if self.chunk_overlap_french >= self.chunk_tokens_french:
            raise ValueError("BACMR_CHUNK_OVERLAP_FRENCH must be smaller than BACMR_CHUNK_TOKENS_FRENCH")
        if self.chunk_overlap_arabic >= self.chunk_tokens_arabic:
            raise ValueError("BACMR_CHUNK_OVERLAP_ARABIC must be smaller than BACMR_CHUNK_TOKENS_ARABIC")
        return self


class SettingsError(Exception):
    """A setting is missing or wrong; the message is one line that names it."""


def load(**overrides: Any) -> Settings:
    """Read all settings once. Raises SettingsError with one clear line."""
    folder = os.environ.get("BACMR_SECRETS_DIR")
    if folder and not Path(folder).is_dir():
        raise SettingsError(f"BACMR_SECRETS_DIR: {folder} is not a folder")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = [str(part) for part in first["loc"]]
        if where and where[0] in Settings.model_fields:
            where[0] = f"BACMR_{where[0].upper()}"
        # What our own rules say needs no prefix; those that look at several settings name them.
        raise SettingsError(": ".join((*where, first["msg"].removeprefix("Value error, ")))) from None
    except UnreadableSetting as error:
        field = re.search(r'field "(\w+)"', str(error))
        name = f"BACMR_{field[1].upper()}" if field else "settings"
        raise SettingsError(f"{name}: is not valid JSON") from None


def misspelt(names: Iterable[str]) -> dict[str, str]:
    """Return the names that look like settings and are none, each with the setting that is nearest, or nothing."""
    known = {f"BACMR_{name.upper()}" for name in Settings.model_fields}.union(CLIENT_VARIABLES)
    strange = (name for name in sorted(names) if name.startswith("BACMR_") and name not in known)
    return {
        name: next(iter(difflib.get_close_matches(name, known, 1)), "")
        for name in strange
        if not SERVICE_LINK.search(name)
    }


def given_names() -> set[str]:
    """Return the names of everything that may set something: variables, and files of `BACMR_SECRETS_DIR`."""
    folder = os.environ.get("BACMR_SECRETS_DIR")
    files = {file.name.upper() for file in Path(folder).iterdir()} if folder else set()
    return files.union(os.environ)
