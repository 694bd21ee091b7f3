"""Removes the packages that only developers need from an environment with the whole lock, to make the image smaller."""

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, distributions

from packaging.requirements import Requirement


def required_packages(project: str) -> set[str]:
    """Return the names of the project and of all packages that it requires, directly or through others."""
    packages: set[tuple[str, str]] = set()  # names with an extra, or with ""
    pending = [(canonical(project), "")]
    while pending:
        package = pending.pop()
        if package not in packages:
            packages.add(package)
            pending.extend(requirements_of(*package))
    return {name for name, _ in packages}


def requirements_of(name: str, extra: str) -> Iterator[tuple[str, str]]:
    """Yield the names and extras that a package requires on this machine; none if it isn't installed."""
    try:
        texts = distribution(name).requires or []
    except PackageNotFoundError:
        return
    for requirement in map(Requirement, texts):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            for required_extra in ("", *requirement.extras):
                yield canonical(requirement.name), required_extra


def canonical(name: str) -> str:
    """Return a package's name as the package index spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Uninstall what the project that is named on the command line doesn't require, pip included."""
    installed = {canonical(package.name) for package in distributions()}
    surplus = sorted(installed - required_packages(sys.argv[1]))
    if surplus:
        subprocess.run([sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", *surplus], check=True)


if __name__ == "__main__":
    main()
