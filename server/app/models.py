"""The models a server asks: configured endpoints in order, the local provider last."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from server.config import ProviderSettings, Settings
from server.models.breakers import Breakers
from server.models.chain import ModelChain
from server.models.local.embedder import LocalEmbedder
from server.models.local.tutor import LocalTutor
from server.models.openai_compatible import OpenAITutor
from server.models.openai_embedder import OpenAIEmbedder
from server.models.port import Embedder, ProviderState, Purpose, TutorModel
from server.models.steady_embedder import SteadyEmbedder
from server.telemetry import metrics
from server.telemetry.metrics import BreakerState
from server.text.detection import detect
from server.text.tokens import count


@dataclass(frozen=True, slots=True)
class Models:
    """`tutor` is who answers, `quoting` quotes free of charge when it cannot (None where it quotes anyway)."""

    tutor: TutorModel
    quoting: TutorModel | None
    embedder: Embedder
    chain: ModelChain | None

    def breakers(self) -> Sequence[ProviderState]:
        """Return the providers in order with their breakers' states."""
        return self.chain.states() if self.chain else [ProviderState(self.tutor.name)]


def make_breakers(settings: Settings) -> Breakers:
    """Return the breakers of every outside system, shown in `circuit_breaker_state`."""
    return Breakers(
        settings.breaker_failures,
        settings.breaker_open_seconds,
        on_state=lambda service, state: metrics.set_circuit_breaker_state(service, BreakerState(state)),
    )


def choose(settings: Settings, breakers: Breakers) -> Models:
    """Return the models that the settings name; without any, the local ones."""
    local = LocalTutor()
    embedder = _embedder(settings, breakers)
    providers = [_provider(provider) for provider in _configured(settings)]
    if not providers:
        return Models(local, None, embedder, None)
    chain = ModelChain(providers, breakers, last=local)
    return Models(chain, local, embedder, chain)


async def warm(models: Models) -> None:
    """Read the tables that the first question would otherwise wait for, about a second in all."""
    await asyncio.to_thread(count, "…")
    await asyncio.to_thread(detect, "…")
    if isinstance(models.embedder, LocalEmbedder):
        await models.embedder.embed(["…"], Purpose.QUERY)


def _configured(settings: Settings) -> Sequence[ProviderSettings]:
    if not settings.model_providers and settings.openai_api_key.get_secret_value():
        key = settings.openai_api_key
        return [ProviderSettings(name="openai", model="gpt-4o", small_model="gpt-4o-mini", api_key=key)]
    return settings.model_providers


def _provider(provider: ProviderSettings) -> OpenAITutor:
    return OpenAITutor(
        provider.name,
        provider.base_url,
        provider.model,
        provider.api_key.get_secret_value(),
        small_model=provider.small_model,
        token_param=provider.token_param,
        supports_schema=provider.supports_schema,
        timeout_seconds=provider.timeout_seconds,
        observe=metrics.record_openai_request,
    )


def _embedder(settings: Settings, breakers: Breakers) -> Embedder:
    if not settings.embedding_model:
        return LocalEmbedder()
    key = settings.embedding_api_key.get_secret_value() or settings.openai_api_key.get_secret_value()
    remote = OpenAIEmbedder(
        settings.embedding_base_url,
        settings.embedding_model,
        settings.embedding_dimensions,
        key,
        observe=metrics.record_openai_request,
    )
    return SteadyEmbedder(remote, breakers)
