"""Runs the steps of the Dockerfile into a folder, and commands in that folder, on machines without a container engine.

Each stage is a folder: a fresh Debian, or a copy of another stage. RUN steps are executed in it as root with chroot, and COPY
steps take the files that .dockerignore allows. RUN steps use this machine's network settings (`host_settings.py`). Limits: no
layers, no image, and only the instructions and forms that our Dockerfile uses. Requires root and mmdebstrap.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from host_settings import host_environment, host_mounts

CHECKOUT = Path(__file__).resolve().parents[1]
DOCKERFILE = CHECKOUT / "docker" / "Dockerfile"
RELEASES = {"12": "bookworm", "13": "trixie"}
START_S = time.monotonic()
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
IGNORED = {"VOLUME", "EXPOSE"}  # tell an engine something, and change no file
SETTINGS = {"ENTRYPOINT", "CMD", "STOPSIGNAL"}


class StepError(Exception):
    """A step that this runner can't execute; the message says which."""


@dataclass(frozen=True)
class Instruction:
    """Instruction of a Dockerfile: its name, and the text after it with continued lines joined."""

    name: str
    text: str


@dataclass
class Stage:
    """Stage of a build: a folder that is the root of a file system, and the settings of the image."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": SYSTEM_PATH})
    build_arguments: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0:0"
    settings: dict[str, str] = field(default_factory=dict)  # ENTRYPOINT, CMD, HEALTHCHECK, STOPSIGNAL


def instructions(text: str) -> Iterator[Instruction]:
    """Yield the instructions of a Dockerfile, without comments."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in lines.replace("\\\n", " ").splitlines():
        if line.strip():
            name, rest = line.strip().split(maxsplit=1)
            yield Instruction(name.upper(), rest)


def build(text: str, folder: Path, build_arguments: Mapping[str, str] | None = None) -> Stage:
    """Run the steps of a Dockerfile, and return its last stage.

    Args:
        text: content of the Dockerfile.
        folder: empty folder, which gets a folder for each stage.
        build_arguments: values of the Dockerfile's ARGs.

    Raises:
        StepError: the runner doesn't support an instruction.
        CalledProcessError: a step failed.
    """
    builder = _Builder(folder, dict(build_arguments or {}))
    for instruction in instructions(text):
        builder.run(instruction)
    return builder.stage


class _Builder:
    """State of a build; the method `_NAME` runs the instruction NAME."""

    def __init__(self, folder: Path, build_arguments: Mapping[str, str]) -> None:
        self.folder = folder
        self.build_arguments = build_arguments
        self.stages: dict[str, Stage] = {}
        self.global_arguments: dict[str, str] = {}  # ARGs before the first FROM

    @property
    def stage(self) -> Stage:
        return self.stages[list(self.stages)[-1]]

    def run(self, instruction: Instruction) -> None:
        _print_step(f"{instruction.name} {instruction.text}")
        if instruction.name in IGNORED:
            return
        if instruction.name in SETTINGS:
            self.stage.settings[instruction.name] = instruction.text
            return
        step = getattr(self, f"_{instruction.name.lower()}", None)
        if step is None:
            raise StepError(f"{instruction.name} isn't supported here; add it, or leave it out of the Dockerfile")
        step(instruction.text)

    def _arg(self, text: str) -> None:
        name, _, default = text.partition("=")
        scope = self.stage.build_arguments if self.stages else self.global_arguments
        scope[name] = self.build_arguments.get(name, default.strip('"'))

    def _from(self, text: str) -> None:
        image, _, name = Template(text).substitute(self.global_arguments).partition(" AS ")
        root = self.folder / (name or "last")
        if image in self.stages:
            origin = self.stages[image]
            copy_files(origin.root, root)
            self.stages[root.name] = Stage(root, dict(origin.environment), folder=origin.folder, user=origin.user)
        else:
            install_debian(image, root)
            self.stages[root.name] = Stage(root)

    def _env(self, text: str) -> None:
        for pair in shlex.split(text):
            name, _, value = pair.partition("=")
            self.stage.environment[name] = value

    def _workdir(self, text: str) -> None:
        self.stage.folder = text
        (self.stage.root / text.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _user(self, text: str) -> None:
        self.stage.user = text

    def _copy(self, text: str) -> None:
        *sources, target = text.split()
        origin = CHECKOUT
        if sources[0].startswith("--from="):
            origin = self.stages[sources.pop(0).removeprefix("--from=")].root
        else:
            _check_context(sources)
        # a target such as /opt, below the stage's root
        target_path = self.stage.root / os.path.join(self.stage.folder, target).lstrip("/")  # noqa: PTH118
        for source in sources:
            path = target_path / Path(source).name if target.endswith("/") else target_path
            copy_files(origin / source.lstrip("/"), path, linked=origin is not CHECKOUT)

    def _run(self, text: str) -> None:
        caches, command = _caches(text)
        stage = self.stage
        environment = {**host_environment(), **stage.build_arguments, **stage.environment, "HOME": "/root"}
        cache_mounts = [f"mount --bind {shlex.quote(str(source))} {stage.root}{target}" for source, target in caches]
        for _, target in caches:
            (stage.root / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
        run_as_root(stage, ["/bin/sh", "-c", command], environment, [*host_mounts(stage.root), *cache_mounts])

    def _healthcheck(self, text: str) -> None:
        self.stage.settings["HEALTHCHECK"] = text.partition("CMD")[2].strip()


def run_as_root(stage: Stage, command: Sequence[str], environment: Mapping[str, str], mounts: Sequence[str] = ()) -> None:
    """Run a command as root in the stage; its processes and mounts end with it.

    Raises:
        CalledProcessError: the command failed.
    """
    root = shlex.quote(str(stage.root))
    script = [
        "set -e",
        *_system_mounts(root),
        *mounts,
        f'cd {root} && exec chroot . /bin/sh -c \'cd "$0" && exec "$@"\' {shlex.quote(stage.folder)} "$@"',
    ]
    subprocess.run([*_ISOLATED, "/bin/sh", "-c", "\n".join(script), "sh", *command], env=dict(environment), check=True)


def as_container(stage: Stage, command: Sequence[str], data: Path, environment: Mapping[str, str] | None = None) -> list[str]:
    """Return the command line that runs a command in the stage with the restrictions of a strict container engine.

    It runs as the image's user, without capabilities or a way to get any; everything but /data and /tmp is read-only, and the
    only network is a loopback of its own.

    Args:
        stage: stage from `build`.
        command: command to run in place of the image's own, without the image's entry point.
        data: folder that is mounted as /data.
        environment: variables in addition to the image's.
    """
    hosts = stage.root.parent / "hosts"  # a container engine always provides one
    hosts.write_text("127.0.0.1 localhost\n")
    root = shlex.quote(str(stage.root))
    user, _, group = stage.user.partition(":")
    values = [f"{name}={value}" for name, value in {**stage.environment, **(environment or {})}.items()]
    unprivileged = ["/usr/bin/setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
    unprivileged += ["--bounding-set=-all", "--inh-caps=-all", "/usr/bin/env", "-i", f"--chdir={stage.folder}", *values]
    script = [
        "set -e",
        "ip link set lo up",
        *_system_mounts(root),
        f"mount -o remount,bind,ro {root}",
        f"mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs {root}/tmp",
        f"mount --bind {shlex.quote(str(data))} {root}/data",
        f"mount --bind {shlex.quote(str(hosts))} {root}/etc/hosts",
        f'cd {root} && exec chroot . {shlex.join(unprivileged)} "$@"',
    ]
    return [*_ISOLATED, "--net", "--ipc", "/bin/sh", "-c", "\n".join(script), "sh", *command]


def _system_mounts(root: str) -> list[str]:
    """Return the commands that mount the root on itself, and /proc and /dev in it."""
    return [f"mount --bind {root} {root}", f"mount -t proc proc {root}/proc", f"mount --rbind /dev {root}/dev"]


_ISOLATED = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]


def exec_form(text: str) -> list[str]:
    """Return the exec form of an instruction, such as `["a", "b"]`, as a list."""
    return [str(word) for word in json.loads(text)]


def install_debian(image: str, root: Path) -> None:
    """Install the content of an image such as `debian:12.12-slim`: the release's essential packages, in their newest versions.

    Raises:
        StepError: the image is another.
    """
    name, _, version = image.partition(":")
    if name != "debian" or version.split(".")[0] not in RELEASES:
        raise StepError(f"image {image}: only debian:12 and debian:13 can be installed here")
    release = RELEASES[version.split(".")[0]]
    options = [
        "--quiet",
        "--variant=minbase",
        "--dpkgopt=force-unsafe-io",
    ]  # unsafe: lost in a power cut
    subprocess.run(["mmdebstrap", *options, release, str(root)], check=True)


def copy_files(source: Path, target: Path, *, linked: bool = False) -> None:
    """Copy files or folders with owners and modes.

    Args:
        source: file or folder.
        target: path of the copy.
        linked: hard links instead of copies, which saves gigabytes; for files that nobody writes to any more.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    method = "--link" if linked else "--reflink=auto"
    subprocess.run(["cp", "--archive", method, "--no-target-directory", str(source), str(target)], check=True)


def _check_context(sources: Sequence[str]) -> None:
    """Check that .dockerignore, which names each path that it allows, allows the sources.

    Raises:
        StepError: it doesn't allow one.
    """
    allowed = {line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for source in sources:
        if source not in allowed:
            raise StepError(f"COPY {source}: .dockerignore doesn't allow it")


def _caches(text: str) -> tuple[list[tuple[Path, str]], str]:
    """Return the cache mounts of a RUN instruction, as (folder of this machine, path in the stage), and the command."""
    match = re.match(r"--mount=type=cache,target=(\S+)\s+(.*)", text)
    if not match:
        return [], text
    folder = Path(match[1].replace("/root", str(Path.home()), 1))
    folder.mkdir(parents=True, exist_ok=True)
    return [(folder, match[1])], match[2]


def _print_step(text: str) -> None:
    sys.stdout.write(f"-- {time.monotonic() - START_S:4.0f} s  {text}\n")
    sys.stdout.flush()


def main() -> None:
    """Build into the folder that is named on the command line, and leave it there for inspection."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise SystemExit(f"{folder} isn't empty; give a new folder")
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        raise SystemExit("this needs root and mmdebstrap; apt-get install mmdebstrap")
    stage = build(DOCKERFILE.read_text(), folder)
    _print_step(f"built in {stage.root}")


if __name__ == "__main__":
    main()
