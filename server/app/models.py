"""The models a server asks: configured endpoints in order, the local provider last."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from server.app.failure import StartupError
from server.config import ProviderSettings, Settings
from server.models.breakers import Breakers
from server.models.chain import ModelChain
from server.models.embedders import Remote, local_embedder, local_names
from server.models.local.embedder import LocalEmbedder
from server.models.local.tutor import LocalTutor
from server.models.port import Embedder, ProviderState, Purpose, TutorModel
from server.models.steady_embedder import SteadyEmbedder
from server.telemetry import metrics, traces
from server.telemetry.metrics import BreakerState
from server.text.detection import detect
from server.text.tokens import count


@dataclass(frozen=True, slots=True)
class Models:
    """`tutor` is who answers, `quoting` quotes free of charge when it cannot (None where it quotes anyway).

    `embedder` is the configured one, `remote` makes others of the same endpoint (None where there is no endpoint).
    `guards` are the breakers of every outside system, the stores' as well.
    """

    tutor: TutorModel
    quoting: TutorModel | None
    embedder: Embedder
    guards: Breakers
    chain: ModelChain | None
    remote: Remote | None = None

    def breakers(self) -> Sequence[ProviderState]:
        """Return the providers in order with their breakers' states."""
        return self.chain.states() if self.chain else [ProviderState(self.tutor.name)]


def make_breakers(settings: Settings) -> Breakers:
    """Return the breakers of every outside system, shown in `circuit_breaker_state`."""
    return Breakers(
        settings.breaker_failures,
        settings.breaker_open_seconds,
        on_state=lambda service, state: metrics.set_circuit_breaker_state(service, BreakerState(state)),
        on_call=traces.begin_step,
    )


def choose(settings: Settings, breakers: Breakers) -> Models:
    """Return the models that the settings name; without any, the local ones."""
    local = LocalTutor()
    remote = _remote(settings, breakers)
    embedder = _embedder(settings, remote)
    providers = [_provider(provider) for provider in configured_providers(settings)]
    if not providers:
        return Models(local, None, embedder, breakers, None, remote)
    chain = ModelChain(providers, breakers, last=local)
    return Models(chain, local, embedder, breakers, chain, remote)


async def warm(models: Models) -> None:
    """Read the tables that the first question would otherwise wait for, about a second in all."""
    await asyncio.to_thread(count, "…")
    await asyncio.to_thread(detect, "…")
    if isinstance(models.embedder, LocalEmbedder):
        await models.embedder.embed(["…"], Purpose.QUERY)


def configured_providers(settings: Settings) -> Sequence[ProviderSettings]:
    """Return the endpoints of the chain in order; an OpenAI key alone names OpenAI's."""
    if not settings.model_providers and settings.openai_api_key.get_secret_value():
        key = settings.openai_api_key
        return [ProviderSettings(name="openai", model="gpt-4o", small_model="gpt-4o-mini", api_key=key)]
    return settings.model_providers


def _provider(provider: ProviderSettings) -> TutorModel:
    # Half a second of imports that a server without such a provider starts without.
    from server.models.openai_compatible import OpenAITutor

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
        trace_headers=traces.headers,
    )


def _embedder(settings: Settings, remote: Remote | None) -> Embedder:
    model = settings.embedding_model
    local = local_embedder(model) if model else LocalEmbedder()
    if local is None and model.startswith("local-"):
        raise StartupError(f"BACMR_EMBEDDING_MODEL: the local models are {' and '.join(local_names())}.")
    if local is not None or remote is None:
        return local or LocalEmbedder()
    return remote(model, settings.embedding_dimensions)


def _remote(settings: Settings, breakers: Breakers) -> Remote | None:
    """Return what makes embedders of the configured endpoint: one is, when a model of it or a key is."""
    key = settings.embedding_api_key.get_secret_value() or settings.openai_api_key.get_secret_value()
    if not key and (not settings.embedding_model or local_embedder(settings.embedding_model)):
        return None
    from server.models.openai_embedder import OpenAIEmbedder

    def make(model: str, dimensions: int) -> Embedder:
        remote = OpenAIEmbedder(
            settings.embedding_base_url,
            model,
            dimensions,
            key,
            observe=metrics.record_openai_request,
            trace_headers=traces.headers,
        )
        return SteadyEmbedder(remote, breakers)

    return make
