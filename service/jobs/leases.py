"""Which of the machines that share a PostgreSQL are alive: each holds a lock there, which the database lets go when it dies."""

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterable

import sqlalchemy

LOOK_S = 3.0
_log = logging.getLogger("overtile.service")


class Leases:
    """A machine's own lock, and an eye on the others'.

    A machine whose connection is lost can't know whether another has taken over its jobs: it ends at once, and starts anew.

    Args:
        database_url: of SQLAlchemy.
        executor: this machine's name.
        others: gives the names of machines that have work.
        take_over: is called with the name of one that is dead, by one machine alone.
    """

    def __init__(
        self, database_url: str, executor: str, others: Callable[[], Iterable[str]], take_over: Callable[[str], None]
    ) -> None:
        url = sqlalchemy.make_url(database_url).set(drivername="postgresql+psycopg")
        self._engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
        self._executor, self._others, self._take_over = executor, others, take_over
        self._ended = threading.Event()
        self._connection: sqlalchemy.Connection | None = None

    def hold(self) -> bool:
        """Takes this machine's lock; whether nobody of its name has it."""
        self._connection = self._engine.connect()
        return self._try(self._connection, self._executor)

    def watch(self) -> None:
        """Looks after the others from now on, in a thread."""
        threading.Thread(target=self._watch, name="leases", daemon=True).start()

    def release(self) -> None:
        """Lets the lock go."""
        self._ended.set()
        if self._connection is not None:
            self._connection.close()
        self._engine.dispose()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_S):
            try:
                self._look()
            except sqlalchemy.exc.SQLAlchemyError:
                if self._ended.is_set():
                    return
                _log.critical("the database is lost; this server ends, so that no job runs twice")
                os._exit(1)

    def _look(self) -> None:
        connection = self._connection
        if connection is None:
            return
        connection.execute(sqlalchemy.text("SELECT 1"))
        for other in set(self._others()) - {self._executor}:
            if self._try(connection, other):
                try:
                    self._take_over(other)
                finally:
                    connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:number)"), {"number": number_of(other)})

    def _try(self, connection: sqlalchemy.Connection, executor: str) -> bool:
        """Whether nobody holds that machine's lock; then this one does."""
        asked = sqlalchemy.text("SELECT pg_try_advisory_lock(:number)")
        return bool(connection.execute(asked, {"number": number_of(executor)}).scalar_one())


def number_of(executor: str) -> int:
    """A machine's name as PostgreSQL's locks are numbered."""
    return int.from_bytes(hashlib.sha256(f"overtile {executor}".encode()).digest()[:8], "big", signed=True)
