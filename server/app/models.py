"""The models a server asks: configured endpoints in order, the local provider last."""

from dataclasses import dataclass

from server.config import Settings
from server.models.chain import ModelChain
from server.models.local.embedder import LocalEmbedder
from server.models.local.tutor import LocalTutor
from server.models.openai_compatible import OpenAIEmbedder, OpenAITutor
from server.models.port import Embedder, TutorModel


@dataclass(frozen=True, slots=True)
class Models:
    """`tutor` is the whole chain, `local` its last link."""

    tutor: ModelChain
    local: TutorModel
    embedder: Embedder
