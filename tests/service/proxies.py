"""A TCP proxy that stands between a client and a server, counts, cuts connections and changes bytes."""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import httpx


class Proxy:
    """Listens until it is closed.

    Args:
        url: where it leads to; may be changed.
        cuts: after so many bytes from clients, in all, a connection is cut.
        answer_cuts: the same for bytes of the server.
        mangle: changes what the server sends.
        bytes_per_s: from clients; 0: as fast as it goes.
    """

    def __init__(
        self,
        url: str,
        cuts: Sequence[int] = (),
        answer_cuts: Sequence[int] = (),
        mangle: Callable[[bytes], bytes] = bytes,
        bytes_per_s: int = 0,
    ) -> None:
        self.target = url
        self.sent, self.answered = 0, 0
        self.cuts, self.answer_cuts = sorted(cuts), sorted(answer_cuts)
        self.mangle, self.bytes_per_s = mangle, bytes_per_s
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        target = httpx.URL(self.target)
        with client, suppress(OSError), socket.create_connection((target.host, target.port or 80)) as server:
            back = threading.Thread(target=self._pump, args=(server, client, self._answer), daemon=True)
            back.start()
            self._pump(client, server, self._send)
            back.join()

    def _pump(self, source: socket.socket, sink: socket.socket, passed: Callable[[bytes], tuple[bytes, bool]]) -> None:
        try:
            with suppress(OSError):
                while block := source.recv(16384):
                    block, cut = passed(block)
                    sink.sendall(block)
                    if cut:
                        break
        finally:
            for each in (source, sink):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _send(self, block: bytes) -> tuple[bytes, bool]:
        if self.bytes_per_s:
            time.sleep(len(block) / self.bytes_per_s)
        block, cut = _until(self.cuts, self.sent, block)
        self.sent += len(block)
        return block, cut

    def _answer(self, block: bytes) -> tuple[bytes, bool]:
        block, cut = _until(self.answer_cuts, self.answered, block)
        self.answered += len(block)
        return self.mangle(block), cut


def _until(cuts: list[int], before: int, block: bytes) -> tuple[bytes, bool]:
    if not cuts or before + len(block) < cuts[0]:
        return block, False
    return block[: max(0, cuts.pop(0) - before)], True
