"""Which embedder serves which name: of an operator, and of an index."""

import pytest

from server.models.embedders import AbsentEmbedder, Embedders, UnknownModel
from server.models.local.embedder import LocalEmbedder
from server.models.port import ProviderFailure, Purpose
from tests.fakes import WordEmbedder


def remote(model: str, dimensions: int) -> WordEmbedder:
    return WordEmbedder(name=f"{model}-{dimensions}", dimensions=dimensions)


@pytest.mark.parametrize("name", ["local-1536", "local-hash-1536-v1"])
def test_local_models_are_served_without_settings(name: str) -> None:
    assert Embedders(LocalEmbedder(), None).asked(name).dimensions == 1536


def test_nothing_said_means_the_configured_model() -> None:
    configured = remote("words", 64)
    assert Embedders(configured, remote).asked("") is configured
    assert Embedders(configured, remote).asked("words") is configured
    assert Embedders(configured, remote).asked("words-64") is configured


def test_another_model_of_the_endpoint_is_named_with_its_length() -> None:
    asked = Embedders(LocalEmbedder(), remote).asked("text-embedding-3-large@3072")
    assert (asked.name, asked.dimensions) == ("text-embedding-3-large-3072", 3072)


@pytest.mark.parametrize("name", ["text-embedding-3-large", "large@", "large@many", "large@9999", "@64", "local-77"])
def test_a_name_that_says_too_little_is_refused(name: str) -> None:
    with pytest.raises(UnknownModel, match="length of its vectors"):
        Embedders(LocalEmbedder(), remote).asked(name)


def test_without_an_endpoint_only_local_models_are_known() -> None:
    with pytest.raises(UnknownModel, match="local-1024, local-1536"):
        Embedders(LocalEmbedder(), None).asked("text-embedding-3-large@3072")


def test_an_index_finds_the_embedder_of_its_space_again() -> None:
    embedders = Embedders(LocalEmbedder(), remote)
    asked = embedders.asked("text-embedding-3-large@3072")
    assert embedders.of(asked.name, 3072) is asked
    assert Embedders(LocalEmbedder(), remote).of("text-embedding-3-large-3072", 3072).name == asked.name
    assert embedders.of("local-hash-1024-v1", 1024).name == "local-hash-1024-v1"


@pytest.mark.parametrize(
    ("name", "dimensions", "endpoint"),
    [("text-embedding-3-large-3072", 3072, None), ("local-hash-1024-v99", 1024, remote), ("without-length", 8, remote)],
)
async def test_a_space_without_settings_fails_and_says_so(name: str, dimensions: int, endpoint: object) -> None:
    embedders = Embedders(LocalEmbedder(), endpoint)
    absent = embedders.of(name, dimensions)
    assert isinstance(absent, AbsentEmbedder)
    assert not embedders.serves(name, dimensions)
    with pytest.raises(ProviderFailure):
        await absent.embed(["une question"], Purpose.QUERY)


async def test_the_local_sizes_are_spaces_of_their_own() -> None:
    small, large = LocalEmbedder(), LocalEmbedder(1536)
    matrix = await large.embed(["La photosynthèse produit du glucose."], Purpose.PASSAGE)
    assert matrix.shape == (1, 1536)
    assert float(matrix[0] @ matrix[0]) == pytest.approx(1)
    assert small.name != large.name
