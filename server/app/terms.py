"""What the settings mean to each room, in the room's own terms."""

from server.auth import issuers
from server.auth import room as auth
from server.auth.issuers import Issuer
from server.caller import Role, Tier
from server.config import IssuerSettings, Settings
from server.ingestion.chunking import ChunkSize
from server.ingestion.extraction.page import Limits as ReadingLimits
from server.ingestion.pipeline import Settings as PipelineSettings
from server.ingestion.scratch import Scratch
from server.retrieval import room as retrieval
from server.text.language import Language
from server.wallet.topup import SignedJson

ANSWER_SECONDS = 240.0
ANSWER_SHARE = 0.8
"""Of a reservation's life: an answer must be settled before its hold expires."""


def retrieval_terms(settings: Settings) -> retrieval.Terms:
    """Return how much answers may take."""
    return retrieval.Terms(
        results={
            Tier.FREE: settings.results_free,
            Tier.STANDARD: settings.results_standard,
            Tier.PREMIUM: settings.results_premium,
        },
        open_answers=settings.limits_open_answers,
        answer_seconds=min(ANSWER_SECONDS, settings.reservation_ttl_seconds * ANSWER_SHARE),
    )


def top_up_readers(settings: Settings) -> dict[str, SignedJson]:
    """Return who reads the callbacks of each provider."""
    secrets = settings.top_up_secrets.items()
    return {provider: SignedJson(provider, secret.get_secret_value().encode()) for provider, secret in secrets}


def auth_terms(settings: Settings) -> auth.Terms:
    """Return how people sign in."""
    return auth.Terms(
        keys_dir=settings.jwt_keys_dir or settings.data_dir / "keys",
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        access_ttl_seconds=settings.jwt_access_ttl_seconds,
        refresh_ttl_seconds=settings.jwt_refresh_ttl_seconds,
        attempts_max=settings.limits_sign_in_per_15_minutes,
        welcome_tokens=settings.welcome_tokens,
        external_issuers=[_issuer(issuer) for issuer in settings.jwt_external_issuers],
    )


def _issuer(issuer: IssuerSettings) -> Issuer:
    roles = [Role(role) for role in issuer.roles]
    secret = issuer.hs256_secret.get_secret_value()
    if secret:
        return issuers.with_secret(issuer.issuer, issuer.audience, secret, roles)
    return issuers.with_keys(issuer.issuer, issuer.audience, issuer.jwks_url, roles)


def pipeline_settings(settings: Settings, scratch: Scratch) -> PipelineSettings:
    """Return how documents are cut and where they are read from."""
    french = ChunkSize(settings.chunk_tokens_french, settings.chunk_overlap_french)
    arabic = ChunkSize(settings.chunk_tokens_arabic, settings.chunk_overlap_arabic)
    sizes = {Language.FRENCH: french, Language.ARABIC: arabic, Language.HASSANIYA: arabic, Language.OTHER: french}
    return PipelineSettings(sizes, scratch)


def reading_limits(settings: Settings) -> ReadingLimits:
    """Return what reading one file may cost."""
    return ReadingLimits(
        timeout_seconds=settings.extraction_timeout_seconds,
        memory_bytes=settings.extraction_memory_bytes,
        pages=settings.extraction_max_pages,
    )
