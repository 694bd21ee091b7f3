"""Receiver of `server_audit.py`: it collects what servers did although they may not."""

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
class ServerAudit:
    """Violations of all servers so far.

    Attributes:
        roles: role of each audited process, by process id.
        violations: what they did although they may not, one line each.
    """

    roles: dict[int, str] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        """Add a message of a process."""
        process, role, violation = json.loads(line)
        self.roles[process] = role
        if violation:
            self.violations.append(f"{role} ({process}): {violation}")

    def take_violations(self) -> list[str]:
        """Return the violations since the last call, and forget them."""
        violations, self.violations = self.violations, []
        return violations


@contextmanager
def audit_servers(pipe: Path) -> Iterator[ServerAudit]:
    """Audit all servers that are started from this process during the context, and their children."""
    audit = ServerAudit()
    os.mkfifo(pipe)
    descriptor = os.open(pipe, os.O_RDWR)  # for writing, too: so that the pipe has no end before all processes have started

    def listen() -> None:
        with os.fdopen(descriptor, "rb") as lines:
            for line in lines:
                if line == END:
                    return
                audit.add(line.decode())

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    os.environ[PIPE] = str(pipe)
    try:
        yield audit
    finally:
        del os.environ[PIPE]
        pipe.write_bytes(END)
        thread.join()
