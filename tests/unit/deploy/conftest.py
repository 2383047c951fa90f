"""What the tests of deploy/ and docs/ look at."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from server.config import Settings

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def setting_names() -> frozenset[str]:
    """Every environment variable that the server reads."""
    named = {(str(field.validation_alias or f"BACMR_{name.upper()}")) for name, field in Settings.model_fields.items()}
    return frozenset(named | {"BACMR_SECRETS_DIR"})


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """A function that imports a script by its path in the project."""

    def load(path: str) -> ModuleType:
        name = Path(path).stem
        spec = importlib.util.spec_from_file_location(name, ROOT / path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    return load
