"""SQL of search terms that another version of the analyser made: finding them and putting new ones in their place."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.corpus.lexemes import Lexemes
from server.text.analysis import ANALYSIS_VERSION

OUTDATED = "analyser_version <> :version AND (:namespace = '' OR namespace = :namespace)"
COUNT = text(f"SELECT count(*) FROM chunk WHERE {OUTDATED}")
AFTER = text(f"SELECT id, content_hash, text FROM chunk WHERE id > :after AND {OUTDATED} ORDER BY id LIMIT :limit")
# Rows that others write now are passed over, and found again by the next pass: who never waits is in no deadlock.
RENEW = text(
    "WITH made AS (SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:hashes AS text[]), CAST(:terms AS text[]),"
    " CAST(:term_counts AS integer[])) AS made (id, content_hash, terms, term_count)), held AS ("
    " SELECT chunk.id FROM chunk JOIN made ON made.id = chunk.id AND made.content_hash = chunk.content_hash"
    " WHERE chunk.analyser_version <> :version FOR NO KEY UPDATE OF chunk SKIP LOCKED)"
    " UPDATE chunk SET terms = CAST(made.terms AS tsvector), term_count = made.term_count, analyser_version = :version"
    " FROM made JOIN held ON held.id = made.id WHERE chunk.id = made.id"
)


@dataclass(frozen=True, slots=True)
class Outdated:
    """A chunk whose terms are to be made again of `text`."""

    id: str
    content_hash: str
    text: str


class TermStore:
    """Reads and writes the terms of `chunk`; for background work and operators only."""

    async def count(self, connection: AsyncConnection, namespace: str) -> int:
        """Count the chunks whose terms another version of the analyser made."""
        return int((await connection.execute(COUNT, _asked(namespace))).scalar_one())

    async def after(self, connection: AsyncConnection, namespace: str, after: str, limit: int) -> list[Outdated]:
        """Return such chunks in order of their ids, after one."""
        rows = await connection.execute(AFTER, _asked(namespace) | {"after": after, "limit": limit})
        return [Outdated(*row) for row in rows]

    async def renew(self, connection: AsyncConnection, chunks: Sequence[Outdated], made: Sequence[Lexemes]) -> int:
        """Store the terms of these chunks; returns of how many: not of those that changed or are being written."""
        columns = {
            "version": ANALYSIS_VERSION,
            "ids": [chunk.id for chunk in chunks],
            "hashes": [chunk.content_hash for chunk in chunks],
            "terms": [each.literal for each in made],
            "term_counts": [each.term_count for each in made],
        }
        return (await connection.execute(RENEW, columns)).rowcount


def _asked(namespace: str) -> dict[str, object]:
    return {"version": ANALYSIS_VERSION, "namespace": namespace}
