"""An environment from the whole lock -> the same without what only developers need: less to fetch, and less to attack."""

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, distributions

from packaging.requirements import Requirement


def needed(project: str) -> set[str]:
    """What the project requires here, itself included, and what that requires, and so on."""
    found: set[tuple[str, str]] = set()
    waiting = [(canonical(project), "")]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting.extend(required_by(*one))
    return {name for name, _ in found}


def required_by(name: str, extra: str) -> Iterator[tuple[str, str]]:
    """Names and extras that a package requires on this machine; none where it isn't installed."""
    try:
        texts = distribution(name).requires or []
    except PackageNotFoundError:
        return
    for requirement in map(Requirement, texts):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            for wanted in ("", *requirement.extras):
                yield canonical(requirement.name), wanted


def canonical(name: str) -> str:
    """A package's name as the index spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Uninstalls what the project named on the command line doesn't need; pip goes last, with itself."""
    installed = {canonical(package.name) for package in distributions()}
    surplus = sorted(installed - needed(sys.argv[1]))
    if surplus:
        subprocess.run([sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", *surplus], check=True)


if __name__ == "__main__":
    main()
