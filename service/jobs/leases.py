"""Leases of the machines that share a PostgreSQL database: locks there, which the database releases when a machine dies."""

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterable

import sqlalchemy

CHECK_S = 3.0
_log = logging.getLogger("overtile.service")


class Leases:
    """Lock of this machine, and a thread that takes over the jobs of machines that no longer hold theirs.

    A machine that loses its connection can't know whether another one has taken over its jobs, so its process ends at once.

    Args:
        database_url: URL of the database, as SQLAlchemy takes it.
        executor: name of this machine.
        executors: returns the names of the machines that have running jobs.
        take_over: called with the name of a machine that has died, by one of the other machines only.
    """

    def __init__(
        self, database_url: str, executor: str, executors: Callable[[], Iterable[str]], take_over: Callable[[str], None]
    ) -> None:
        url = sqlalchemy.make_url(database_url).set(drivername="postgresql+psycopg")
        self._engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
        self._executor, self._executors, self._take_over = executor, executors, take_over
        self._ended = threading.Event()
        self._connection: sqlalchemy.Connection | None = None

    def acquire(self) -> bool:
        """Acquire the lock of this machine; return False if another server of that name holds it."""
        self._connection = self._engine.connect()
        return _try_lock(self._connection, self._executor)

    def start(self) -> None:
        """Start the thread that checks the other machines."""
        threading.Thread(target=self._run, name="leases", daemon=True).start()

    def release(self) -> None:
        """Release the lock and stop the checks."""
        self._ended.set()
        if self._connection is not None:
            self._connection.close()
        self._engine.dispose()

    def _run(self) -> None:
        while not self._ended.wait(CHECK_S):
            try:
                self._check_others()
            except sqlalchemy.exc.SQLAlchemyError:
                if self._ended.is_set():
                    return
                _log.critical("the connection to the database is lost; this server ends, so that no job runs twice")
                os._exit(1)

    def _check_others(self) -> None:
        connection = self._connection
        if connection is None:
            return
        connection.execute(sqlalchemy.text("SELECT 1"))
        for other in set(self._executors()) - {self._executor}:
            if _try_lock(connection, other):
                try:
                    self._take_over(other)
                finally:
                    connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:number)"), {"number": lock_number(other)})


def lock_number(executor: str) -> int:
    """Return the number of a machine's lock; PostgreSQL's advisory locks have signed 64-bit numbers."""
    return int.from_bytes(hashlib.sha256(f"overtile {executor}".encode()).digest()[:8], "big", signed=True)


def _try_lock(connection: sqlalchemy.Connection, executor: str) -> bool:
    """Return whether the machine's lock was free; if so, the connection holds it now."""
    statement = sqlalchemy.text("SELECT pg_try_advisory_lock(:number)")
    return bool(connection.execute(statement, {"number": lock_number(executor)}).scalar_one())
