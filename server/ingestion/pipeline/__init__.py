"""The run of an ingestion job, step by step; each step can be killed and run again."""

from server.ingestion.pipeline.pipeline import Pipeline, Settings
from server.ingestion.pipeline.stores import Stores

__all__ = ["Pipeline", "Settings", "Stores"]
