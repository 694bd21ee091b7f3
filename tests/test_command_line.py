"""What all commands share: a version, and a help that ends with an example which the command accepts."""

import re
import shlex
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from overtile import app


def commands_below(command: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield a command and all its sub-commands, each with the words that call it."""
    yield names, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands_below(child, *names, name)


COMMANDS = {" ".join(names): command for names, command in commands_below(typer.main.get_command(app), "overtile")}


def parse(command: Any, words: list[str]) -> None:
    """Parse the words as the command does, without running it."""
    if hasattr(command, "commands"):
        parse(command.commands[words[0]], words[1:])
    else:
        with command.make_context(command.name, words):
            pass


def test_there_are_many_commands() -> None:
    assert len(COMMANDS) > 20
    assert {"overtile", "overtile client submit", "overtile keys"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_ends_with_an_example_that_the_command_accepts(name: str) -> None:
    epilog = COMMANDS[name].epilog
    assert epilog is not None, f"{name}: no example; see EXAMPLES in overtile.py"
    assert re.match(rf"Example: {name}\b", epilog)
    result = CliRunner().invoke(app, [*name.split()[1:], "--help"])
    assert result.exit_code == 0
    assert " ".join(result.output.split()).endswith(epilog)
    parse(COMMANDS["overtile"], shlex.split(epilog)[2:])


def test_the_versions() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert re.fullmatch(r"overtile [\d.]+ \(Python 3\.\d+\.\d+, torch [\w.+]+\)\n", result.stdout)
    assert f"overtile {version('overtile')} " in result.stdout
