"""Simulation of a power failure: a disk that replays a server's system calls from strace and loses what wasn't synced.

It is the worst disk that POSIX allows: a file has only the bytes from before its last fsync, and a name exists only once its
folder was fsynced. A real disk loses less.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

CALLS = (
    "mkdir,mkdirat,rmdir,rename,renameat,renameat2,link,linkat,unlink,unlinkat,openat,write,pwrite64,writev,pwritev,ftruncate,"
    "fallocate,fsync,fdatasync,sendto,sendmsg"
)
_LINE = re.compile(r"^(\d+) +(?:[\d.]+ )?(\w+)\((.*)\) += +(-?\d+)(?:<(.*?)>)?")
_BEGUN = re.compile(r"^(\d+) +(?:[\d.]+ )?(\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(\d+) +(?:[\d.]+ )?<\.\.\. (\w+) resumed>(.*)$")
_NAME = re.compile(r'(?:AT_FDCWD|\d+)?(?:<([^>]*)>)?,? ?"((?:[^"\\]|\\.)*)"')
_DESCRIPTOR = re.compile(r"^\d+<([^>]*)>")


@dataclass(eq=False)
class Node:
    """File, or folder with names. `kept...` is what is on the disk: all bytes of a file, or the names of a folder."""

    is_folder: bool
    names: dict[str, "Node"] = field(default_factory=dict)
    kept_names: dict[str, "Node"] = field(default_factory=dict)
    changes: int = 0
    kept_changes: int = 0
    syncs: int = 0

    @property
    def is_kept(self) -> bool:
        """True if no byte would be lost."""
        return self.changes == self.kept_changes

    def sync(self) -> None:
        self.syncs += 1
        self.kept_changes, self.kept_names = self.changes, dict(self.names)


class Disk:
    """Contents of one folder, as processes see it and as a failure would leave it."""

    def __init__(self, root: Path) -> None:
        self.prefix = f"{root}/"
        self.root = Node(is_folder=True)

    def seen(self, path: str) -> Node | None:
        """Return the node of a path as processes see it."""
        return self._find(path, kept=False)

    def kept(self, path: str) -> Node | None:
        """Return the node of a path after a failure, if its name and all its bytes are kept."""
        node = self._find(path, kept=True)
        return node if node and (node.is_folder or node.is_kept) else None

    def take(self, call: str, arguments: str, result: str | None) -> None:
        """Apply a successful system call."""
        if call in ("write", "pwrite64", "writev", "pwritev", "ftruncate", "fallocate"):
            if node := self._open(arguments):
                node.changes += 1
        elif call in ("fsync", "fdatasync"):
            if node := self._open(arguments):
                node.sync()
        elif call == "openat":
            if result and "O_CREAT" in arguments:
                self._add(result, lambda: Node(is_folder=False))
        else:
            self._rename(call, [_absolute(*found) for found in _NAME.findall(arguments)])

    def _rename(self, call: str, paths: list[str]) -> None:
        if call in ("mkdir", "mkdirat"):
            self._add(paths[0], lambda: Node(is_folder=True))
        elif call in ("rmdir", "unlink", "unlinkat"):
            self._remove(paths[0])
        elif call in ("rename", "renameat", "renameat2", "link", "linkat"):
            node = self.seen(paths[0])
            if node is None:
                return
            if call.startswith("rename"):
                self._remove(paths[0])
            self._remove(paths[1])
            self._add(paths[1], lambda: node)

    def _open(self, arguments: str) -> Node | None:
        found = _DESCRIPTOR.match(arguments)
        return self.seen(found[1]) if found else None

    def _find(self, path: str, *, kept: bool) -> Node | None:
        if path == self.prefix[:-1]:
            return self.root
        if not path.startswith(self.prefix):
            return None
        node = self.root
        for name in path[len(self.prefix) :].split("/"):
            found = (node.kept_names if kept else node.names).get(name)
            if found is None:
                return None
            node = found
        return node

    def _add(self, path: str, make: Callable[[], Node]) -> None:
        folder, _, name = path.rpartition("/")
        if (parent := self.seen(folder)) and name not in parent.names:
            parent.names[name] = make()

    def _remove(self, path: str) -> None:
        folder, _, name = path.rpartition("/")
        if parent := self.seen(folder):
            parent.names.pop(name, None)


def calls(trace: Path) -> Iterator[tuple[str, str, str | None]]:
    """Yield the name, arguments and opened path of each successful call, in the order of their ends."""
    begun: dict[str, str] = {}
    for line in trace.read_text(errors="replace").splitlines():
        if match := _BEGUN.match(line):
            begun[match[1]] = match[3]
            continue
        if match := _RESUMED.match(line):
            line = f"{match[1]} {match[2]}({begun.pop(match[1], '')}{match[3]}"
        if (match := _LINE.match(line)) and int(match[4]) >= 0:
            yield match[2], match[3], match[5]


def _absolute(folder: str, name: str) -> str:
    return name if name.startswith("/") else f"{folder}/{name}"
