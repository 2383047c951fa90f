"""The local vector space: deterministic, unit length, near for texts that share words."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.models.local.embedder import DIMENSIONS, LocalEmbedder, embed
from server.models.local.frequency import weight
from server.models.port import Purpose


@settings(deadline=None)
@given(st.lists(st.text(max_size=60), max_size=4))
def test_vectors_are_finite_and_of_unit_length(texts):
    matrix = embed(texts)
    assert matrix.shape == (len(texts), DIMENSIONS)
    assert np.isfinite(matrix).all()
    assert np.allclose(np.linalg.norm(matrix, axis=1), 1.0, atol=1e-5)


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["la masse", "الطاقة الحركية", "", "x² + 1", "une longue phrase sur les volcans"]), max_size=5
    )
)
def test_a_batch_gives_the_vectors_of_its_texts(texts):
    alone = [embed([text])[0] for text in texts]
    assert all(np.allclose(row, one, atol=1e-6) for row, one in zip(embed(texts), alone, strict=True))


def test_the_vector_space_never_moves():
    vector = embed(["La photosynthèse produit du glucose."])[0]
    strongest = np.argsort(-np.abs(vector), kind="stable")[:3]  # two of them are equal
    assert strongest.tolist() == [322, 829, 63]
    assert np.allclose(vector[strongest], [-0.2410, 0.2177, 0.1719], atol=1e-3)


@pytest.mark.parametrize(
    ("question", "near", "far"),
    [
        (
            "Que produit la photosynthèse ?",
            "La photosynthèse produit du glucose.",
            "Le courant électrique traverse le fil.",
        ),
        ("ما هي الطاقة الحركية؟", "الطاقة الحركيّة تساوي نصف الكتلة في مربع السرعة", "تقع موريتانيا في غرب إفريقيا"),
        ("accélérateur de particules", "Les particules sont accélérées.", "La monnaie circule."),
    ],
)
def test_a_text_that_shares_words_is_nearer(question, near, far):
    asked, close, distant = embed([question, near, far])
    assert asked @ close > asked @ distant + 0.2


def test_frequent_words_weigh_less():
    assert weight("pay") < weight("photosynthes")
    assert weight("zzzzqqq") == 1.0


async def test_the_port_is_served():
    embedder = LocalEmbedder()
    matrix = await embedder.embed(["une question"], Purpose.QUERY)
    assert matrix.shape == (1, embedder.dimensions)
    assert embedder.name == "local-hash-1024-v1"
