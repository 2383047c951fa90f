"""Promises of the container image's recipe."""

import re
import tomllib
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def stages(root: Path) -> list[list[tuple[str, str]]]:
    """The stages of the Dockerfile as lists of instruction and value."""
    text = re.sub(r"^#.*\n", "", (root / "deploy/Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    instructions = [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]
    starts = [place for place, (name, _) in enumerate(instructions) if name == "FROM"]
    return [instructions[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]


def test_what_builds_is_not_what_runs(stages: list[list[tuple[str, str]]]) -> None:
    assert len(stages) == 2
    assert all(stage[0][1].startswith("python:3.11-slim-bookworm") for stage in stages)


def test_the_container_runs_as_nobody_special(stages: list[list[tuple[str, str]]]) -> None:
    users = [value for name, value in stages[-1] if name == "USER"]
    assert users == ["10001:10001"]


def test_the_image_reads_arabic_and_french_scans(stages: list[list[tuple[str, str]]]) -> None:
    installed = " ".join(value for name, value in stages[-1] if name == "RUN")
    assert {"tesseract-ocr", "tesseract-ocr-ara", "tesseract-ocr-fra"} <= set(installed.split())


def test_everything_that_is_copied_exists_and_is_let_into_the_build(
    stages: list[list[tuple[str, str]]], root: Path
) -> None:
    allowed = {
        line.removeprefix("!")
        for line in (root / "deploy/Dockerfile.dockerignore").read_text().splitlines()
        if "!" in line
    }
    copied = {source for name, value in stages[0] if name == "COPY" for source in value.split()[:-1]}
    assert copied == allowed
    assert all((root / source).exists() for source in copied)


def test_the_image_holds_every_package_of_the_project(stages: list[list[tuple[str, str]]], root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())
    folders = {folder.split("/")[0] for folder in project["tool"]["setuptools"]["package-dir"].values()}
    copied = {source for name, value in stages[0] if name == "COPY" for source in value.split()[:-1]}
    assert folders <= copied


def test_no_secret_is_baked_in(stages: list[list[tuple[str, str]]]) -> None:
    baked = " ".join(value for stage in stages for name, value in stage if name in {"ENV", "ARG"})
    assert not re.search(r"password|secret|token|key", baked, flags=re.IGNORECASE)
