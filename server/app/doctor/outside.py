"""The models of others: their endpoints answer, take our key and know the model."""

from server.app.doctor.finding import Finding, Verdict
from server.app.models import configured_providers
from server.config import Settings
from server.models.embedders import local_embedder
from server.models.reach import Reach, reach


async def models(settings: Settings) -> list[Finding]:
    """Ask each endpoint of the chain for its models; no token is spent."""
    providers = configured_providers(settings)
    if not providers:
        return [Finding("models", Verdict.UNUSED, "the local provider quotes passages, without any network")]
    return [
        _finding(
            f"model {provider.name}",
            await reach(provider.base_url, provider.api_key.get_secret_value()),
            [model for model in (provider.model, provider.small_model) if model],
        )
        for provider in providers
    ]


async def embeddings(settings: Settings) -> list[Finding]:
    """Ask the endpoint of the embedding model."""
    if not settings.embedding_model or local_embedder(settings.embedding_model):
        return [Finding("embeddings", Verdict.UNUSED, "the local embedder, without any network")]
    key = settings.embedding_api_key.get_secret_value() or settings.openai_api_key.get_secret_value()
    return [_finding("embeddings", await reach(settings.embedding_base_url, key), [settings.embedding_model])]


def _finding(part: str, found: Reach, wanted: list[str]) -> Finding:
    if not found.answers:
        return Finding(part, Verdict.WRONG, "the endpoint does not answer: check its base_url and the way to it")
    if not found.key_taken:
        return Finding(part, Verdict.WRONG, "the endpoint refuses the key: set a valid one")
    unknown = [model for model in wanted if found.models and model not in found.models]
    if unknown:
        return Finding(part, Verdict.DOUBTFUL, f"the endpoint does not list {', '.join(unknown)}: check the name")
    return Finding(part, Verdict.FINE, "answers and takes the key")
