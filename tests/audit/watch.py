"""The other end of `server_audit.py`: what servers did that they may not."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.audit.server_audit import PIPE

END = b"end\n"


@dataclass
class Watch:
    """What came so far.

    Attributes:
        roles: of the processes that are looked at, by process.
        broken: what they did and may not, a line each.
    """

    roles: dict[int, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        """What a process said."""
        process, role, broken = json.loads(line)
        self.roles[process] = role
        if broken:
            self.broken.append(f"{role} ({process}): {broken}")

    def taken(self) -> list[str]:
        """What was broken since the last time."""
        taken, self.broken = self.broken, []
        return taken


@contextmanager
def watching(pipe: Path) -> Iterator[Watch]:
    """All servers that are started meanwhile from this process, and theirs."""
    watch = Watch()
    os.mkfifo(pipe)
    descriptor = os.open(pipe, os.O_RDWR)  # for writing, too: there is no end of it before all have begun

    def listen() -> None:
        with os.fdopen(descriptor, "rb") as lines:
            for line in lines:
                if line == END:
                    return
                watch.add(line.decode())

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    os.environ[PIPE] = str(pipe)
    try:
        yield watch
    finally:
        del os.environ[PIPE]
        pipe.write_bytes(END)
        thread.join()
