"""Vector indexes as operators change them: built beside the searched one, compared, switched, kept and dropped."""

from server.admin.indexes.reindexing import REINDEX, Reindexing
from server.admin.indexes.service import IndexService, IndexStatus

__all__ = ["REINDEX", "IndexService", "IndexStatus", "Reindexing"]
