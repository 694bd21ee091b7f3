"""What is installed is what was looked at: every package has one version and its hashes, and the set-up demands them."""

import re
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
REFUSED = {("lightning", "2.6.2"), ("lightning", "2.6.3")}  # releases that mustn't be installed, whoever asks for them
REQUIREMENT = re.compile(r"^([a-z0-9][a-z0-9._-]*)(\[[a-z0-9,_-]+\])?==([^ ;]+)", re.IGNORECASE)


def requirements() -> list[str]:
    """One a package, its hashes behind it."""
    text = (CHECKOUT / "requirements.lock").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_x15_each_has_one_version_and_its_hashes() -> None:
    assert len(requirements()) > 100
    for line in requirements():
        assert REQUIREMENT.match(line), line
        assert re.findall(r"--hash=sha256:[0-9a-f]{64}(?= |$)", line), line


def test_x15_releases_that_are_refused_arent_there() -> None:
    locked = {(match[1].lower(), match[3]) for line in requirements() if (match := REQUIREMENT.match(line))}
    assert "pytorch-lightning" in dict(locked), "the lock isn't read as it is written"
    assert not locked & REFUSED


def test_x15_the_set_up_demands_the_hashes() -> None:
    commands = [
        line for line in (CHECKOUT / "Makefile").read_text().splitlines() if "requirements.lock" in line and "install" in line
    ]
    assert len(commands) == 1
    assert "--require-hashes" in commands[0]
    assert "--no-deps" in commands[0]
