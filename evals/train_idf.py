"""Learn the frozen document frequencies: `python -m evals.train_idf DATA_DIR OUTPUT.npz`.

Each script counts its own documents, so that a French word is compared with French texts only.
"""

import argparse
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evals.corpora import labelled_sentences, lines, pool
from server.models.local.embedder import LONGEST_NGRAM, SHORTEST_NGRAM
from server.models.local.frequency import BUCKET_BITS, LEVELS, buckets
from server.text.analysis import terms
from server.text.language import Language

SELDOM = 2
"""Features in at most this many documents are left out of the table: they weigh 1 anyway."""

SENTENCES_A_DOCUMENT = 8
POOLS = ("xquad_ar", "arcd_ar", "piaf_fr")


def documents(data: Path, without: str = "") -> list[str]:
    """Return paragraphs, exam questions and groups of sentences; `without` leaves one question set out."""
    found = [text for name in POOLS if name != without for text in pool(data, name).paragraphs]
    for row in lines(data / "exams_ar_fr.jsonl"):
        found.append(" ".join([row["q"], *(choice for _, choice in row["choices"])]))
    grouped: dict[tuple[str, Language], list[str]] = {}
    for sentence in labelled_sentences(data):
        if sentence.corpus in ("tatoeba", "rim", "dah") and sentence.language is not Language.OTHER:
            grouped.setdefault((sentence.corpus, sentence.language), []).append(sentence.text)
    for sentences in grouped.values():
        found += (
            " ".join(sentences[at : at + SENTENCES_A_DOCUMENT]) for at in range(0, len(sentences), SENTENCES_A_DOCUMENT)
        )
    return found


def features(text: str) -> set[str]:
    """Return what the embedder weighs in a text: its stems, and their padded n-grams marked with #."""
    stems = set(terms(text))
    padded = [f"^{stem}$" for stem in stems]
    sizes = range(SHORTEST_NGRAM, LONGEST_NGRAM + 1)
    return stems | {
        f"#{stem[at : at + size]}" for stem in padded for size in sizes for at in range(len(stem) - size + 1)
    }


def train(texts: Iterable[str]) -> NDArray[np.uint8]:
    """Return the table of `server.models.local.frequency`: how common the most common feature of each bucket is."""
    found = [features(text) for text in texts]
    table = np.zeros(1 << BUCKET_BITS, dtype=np.uint8)
    for arabic in (True, False):
        _fill(table, [{feature for feature in document if _is_arabic(feature) is arabic} for document in found])
    return table


def _is_arabic(feature: str) -> bool:
    return any("\u0600" <= character <= "\u06ff" for character in feature)


def _fill(table: NDArray[np.uint8], found: Sequence[set[str]]) -> None:
    count = sum(1 for document in found if document)
    frequencies = Counter(feature for document in found for feature in document)
    for feature, frequency in frequencies.items():
        if frequency > SELDOM:
            commonness = math.log(frequency / SELDOM) / math.log((count + 1) / SELDOM)
            for bucket in buckets(feature):
                table[bucket] = max(table[bucket], min(LEVELS, max(1, round(commonness * (LEVELS + 1)))))


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    table = train(documents(arguments.data))
    with arguments.output.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, commonness=table)
    print(f"{np.count_nonzero(table)} buckets used; {arguments.output}: {arguments.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
