"""Dockerfile -> what it builds, as a folder, where there is no container engine; and a command in it, as a container has it.

Each stage is a folder: a fresh Debian, or a copy of another stage. Its RUN steps are carried out in it as root by chroot, its
COPY steps take what .dockerignore lets through. The machine lends its resolver and its settings of pip, read-only. This is no
container engine: no layers, no image, and only the instructions and forms that our Dockerfile has. Needs root and mmdebstrap.
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

CHECKOUT = Path(__file__).resolve().parents[1]
DOCKERFILE = CHECKOUT / "docker" / "Dockerfile"
RELEASES = {"12": "bookworm", "13": "trixie"}
BEGAN = time.monotonic()
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LENT_CERTIFICATES = "/run/lent-certificates.pem"
IGNORED = {"VOLUME", "EXPOSE"}  # say something to an engine, and change no file


class StepError(Exception):
    """A step that this runner can't carry out; the message says which."""


@dataclass(frozen=True)
class Instruction:
    """`words` is what follows the name, as it stands in the file, with continued lines joined."""

    name: str
    words: str


@dataclass
class Stage:
    """A folder that is the root of a file system, and what an image says beside its files."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": SYSTEM_PATH})
    arguments: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0:0"
    settings: dict[str, str] = field(default_factory=dict)  # ENTRYPOINT, CMD, HEALTHCHECK, STOPSIGNAL


def instructions(text: str) -> Iterator[Instruction]:
    """The Dockerfile's instructions; comments are gone, continued lines are one."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in lines.replace("\\\n", " ").splitlines():
        if line.strip():
            name, words = line.strip().split(maxsplit=1)
            yield Instruction(name.upper(), words)


def build(text: str, folder: Path, arguments: Mapping[str, str] | None = None) -> Stage:
    """The last stage, made in `folder`.

    Args:
        text: the Dockerfile.
        folder: empty; the stages are folders in it.
        arguments: values for its ARGs.

    Raises:
        StepError: an instruction that isn't known here.
        CalledProcessError: a step failed.
    """
    builder = _Builder(folder, dict(arguments or {}))
    for instruction in instructions(text):
        builder.carry_out(instruction)
    return builder.stage


class _Builder:
    def __init__(self, folder: Path, given: Mapping[str, str]) -> None:
        self.folder = folder
        self.given = given
        self.stages: dict[str, Stage] = {}
        self.arguments: dict[str, str] = {}  # those before the first FROM

    @property
    def stage(self) -> Stage:
        return self.stages[list(self.stages)[-1]]

    def carry_out(self, instruction: Instruction) -> None:
        _say(f"{instruction.name} {instruction.words}")
        if instruction.name in IGNORED:
            return
        step = getattr(self, f"_{instruction.name.lower()}", None)
        if step is None:
            raise StepError(f"{instruction.name} isn't known here; add it, or leave it out of the Dockerfile")
        step(instruction.words)

    def _arg(self, words: str) -> None:
        name, _, default = words.partition("=")
        scope = self.stage.arguments if self.stages else self.arguments
        scope[name] = self.given.get(name, default.strip('"'))

    def _from(self, words: str) -> None:
        image, _, name = Template(words).substitute(self.arguments).partition(" AS ")
        root = self.folder / (name or "last")
        if image in self.stages:
            origin = self.stages[image]
            copy_files(origin.root, root)
            self.stages[root.name] = Stage(root, dict(origin.environment), folder=origin.folder, user=origin.user)
        else:
            _debian(image, root)
            self.stages[root.name] = Stage(root)

    def _env(self, words: str) -> None:
        for pair in shlex.split(words):
            name, _, value = pair.partition("=")
            self.stage.environment[name] = value

    def _workdir(self, words: str) -> None:
        self.stage.folder = words
        (self.stage.root / words.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _user(self, words: str) -> None:
        self.stage.user = words

    def _copy(self, words: str) -> None:
        *sources, target = words.split()
        origin, wanted = CHECKOUT, sources
        if sources[0].startswith("--from="):
            origin, wanted = self.stages[sources[0].removeprefix("--from=")].root, sources[1:]
        else:
            _check_context(wanted)
        place = self.stage.root / os.path.join(self.stage.folder, target).lstrip("/")  # noqa: PTH118  (the root's own paths)
        for source in wanted:
            into = place / Path(source).name if target.endswith("/") else place
            copy_files(origin / source.lstrip("/"), into, linked=origin is not CHECKOUT)

    def _run(self, words: str) -> None:
        caches, command = _caches(words)
        stage = self.stage
        environment = {**_lent_environment(), **stage.arguments, **stage.environment, "HOME": "/root"}
        prepared = [f"mount --bind {shlex.quote(str(source))} {stage.root}{target}" for source, target in caches]
        for _, target in caches:
            (stage.root / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
        inside(stage, ["/bin/sh", "-c", command], environment, [*_lend(stage.root), *prepared])

    def _setting(self, name: str, words: str) -> None:
        self.stage.settings[name] = words

    def _entrypoint(self, words: str) -> None:
        self._setting("ENTRYPOINT", words)

    def _cmd(self, words: str) -> None:
        self._setting("CMD", words)

    def _healthcheck(self, words: str) -> None:
        self._setting("HEALTHCHECK", words.partition("CMD")[2].strip())

    def _stopsignal(self, words: str) -> None:
        self._setting("STOPSIGNAL", words)


def inside(stage: Stage, command: Sequence[str], environment: Mapping[str, str], mounts: Sequence[str] = ()) -> None:
    """Runs a command as root in the stage, in processes and mounts of its own that end with it.

    Raises:
        CalledProcessError: it failed.
    """
    root = shlex.quote(str(stage.root))
    script = [
        "set -e",
        *_mounted(root),
        *mounts,
        f'cd {root} && exec chroot . /bin/sh -c \'cd "$0" && exec "$@"\' {shlex.quote(stage.folder)} "$@"',
    ]
    subprocess.run([*_ISOLATED, "/bin/sh", "-c", "\n".join(script), "sh", *command], env=dict(environment), check=True)


def as_container(stage: Stage, command: Sequence[str], data: Path, environment: Mapping[str, str] | None = None) -> list[str]:
    """The command line that runs `command` as an engine that is told to be strict would.

    As the image's user without a capability or a way to get one, all but /data and /tmp read-only, and with no network but a
    loopback of its own.

    Args:
        stage: what `build` made.
        command: instead of the image's own; its entry point isn't put before it.
        data: becomes /data.
        environment: beside the image's.
    """
    hosts = stage.root.parent / "hosts"  # an engine always gives one
    hosts.write_text("127.0.0.1 localhost\n")
    root = shlex.quote(str(stage.root))
    user, _, group = stage.user.partition(":")
    values = [f"{name}={value}" for name, value in {**stage.environment, **(environment or {})}.items()]
    unprivileged = ["/usr/bin/setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
    unprivileged += ["--bounding-set=-all", "--inh-caps=-all", "/usr/bin/env", "-i", f"--chdir={stage.folder}", *values]
    script = [
        "set -e",
        "ip link set lo up",
        *_mounted(root),
        f"mount -o remount,bind,ro {root}",
        f"mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs {root}/tmp",
        f"mount --bind {shlex.quote(str(data))} {root}/data",
        f"mount --bind {shlex.quote(str(hosts))} {root}/etc/hosts",
        f'cd {root} && exec chroot . {shlex.join(unprivileged)} "$@"',
    ]
    return [*_ISOLATED, "--net", "--ipc", "/bin/sh", "-c", "\n".join(script), "sh", *command]


def _mounted(root: str) -> list[str]:
    return [f"mount --bind {root} {root}", f"mount -t proc proc {root}/proc", f"mount --rbind /dev {root}/dev"]


_ISOLATED = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]


def exec_form(words: str) -> list[str]:
    """`["a", "b"]` of an instruction as a list."""
    return [str(word) for word in json.loads(words)]


def _debian(image: str, root: Path) -> None:
    """What the image `debian:12.12-slim` is made of: the release's essential packages, in their newest versions."""
    name, _, version = image.partition(":")
    if name != "debian" or version.split(".")[0] not in RELEASES:
        raise StepError(f"image {image}: only debian:12 and debian:13 can be made here")
    release = RELEASES[version.split(".")[0]]
    options = ["--quiet", "--variant=minbase", "--dpkgopt=force-unsafe-io"]  # as the image: nothing here outlives a power cut
    subprocess.run(["mmdebstrap", *options, release, str(root)], check=True)


def copy_files(source: Path, target: Path, *, linked: bool = False) -> None:
    """Files with owners and modes; `linked` where nobody writes to either any more, which saves gigabytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    how = ["--link"] if linked else ["--reflink=auto"]
    subprocess.run(["cp", "--archive", *how, "--no-target-directory", str(source), str(target)], check=True)


def _check_context(sources: Sequence[str]) -> None:
    """Raises StepError where .dockerignore keeps a source from the engine; ours names each path that it lets through."""
    allowed = {line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for source in sources:
        if source not in allowed:
            raise StepError(f"COPY {source}: .dockerignore doesn't let it through")


def _caches(words: str) -> tuple[list[tuple[Path, str]], str]:
    """The folders of `--mount=type=cache,target=...`, which are the machine's own of the same path, and the command."""
    found = re.match(r"--mount=type=cache,target=(\S+)\s+(.*)", words)
    if not found:
        return [], words
    target = found[1].replace("/root", str(Path.home()), 1)
    Path(target).mkdir(parents=True, exist_ok=True)
    return [(Path(target), found[1])], found[2]


def _lend(root: Path) -> list[str]:
    """Commands that put the machine's resolver, certificates and settings of pip into the root, read-only."""
    lent = {path: root / str(path).lstrip("/") for path in [Path("/etc/resolv.conf"), Path("/etc/hosts"), *_pip_paths()]}
    if certificates := _certificates():
        lent[certificates] = root / LENT_CERTIFICATES.lstrip("/")
    return [command for path, place in lent.items() for command in _bound_read_only(path.resolve(), place)]


def _bound_read_only(path: Path, place: Path) -> list[str]:
    if path.is_dir():
        place.mkdir(parents=True, exist_ok=True)
    elif not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)  # a link to nowhere
        place.touch()
    quoted = shlex.quote(str(place))
    return [f"mount --bind {shlex.quote(str(path))} {quoted}", f"mount -o remount,bind,ro {quoted}"]


def _pip_paths() -> set[Path]:
    """The files that hold pip's settings, and the files and folders that these name."""
    pip = [sys.executable, "-m", "pip", "config"]
    places = subprocess.run([*pip, "debug"], capture_output=True, text=True, check=True).stdout
    values = subprocess.run([*pip, "list"], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^\s*(/.*), exists: True$", places, re.MULTILINE) + re.findall(r"(?<![:/\w])/[^\s']+", values)
    paths = {Path(text) for text in found if not text.startswith("/etc/ssl/")}
    paths |= {Path(text).parent for text in re.findall(r"file://(/[^\s']+)", values)}  # an index links to folders beside it
    return {path for path in paths if path.exists()}


def _lent_environment() -> dict[str, str]:
    settings = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.lower().endswith("_proxy")}
    return {**settings, **({"PIP_CERT": LENT_CERTIFICATES} if _certificates() else {})}


def _certificates() -> Path | None:
    """Whom the machine trusts beside everybody else; lent under another name, as Debian writes its own file in the root."""
    named = [Path(os.environ[name]) for name in ("PIP_CERT", "SSL_CERT_FILE") if os.environ.get(name)]
    return next((path for path in named if path.is_file()), None)


def _say(text: str) -> None:
    sys.stdout.write(f"-- {time.monotonic() - BEGAN:4.0f} s  {text}\n")
    sys.stdout.flush()


def main() -> None:
    """`run_steps.py FOLDER` builds into an empty folder and leaves it there, for a look around."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise SystemExit(f"{folder} isn't empty; give a new folder")
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        raise SystemExit("this needs root and mmdebstrap; apt-get install mmdebstrap")
    stage = build(DOCKERFILE.read_text(), folder)
    _say(f"built in {stage.root}")


if __name__ == "__main__":
    main()
