"""Prefetching: the next tiles are read in a thread while the network runs."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Data = TypeVar("Data")


def prefetch(read: Callable[[Item], Data], items: Iterable[Item]) -> Iterator[tuple[Item, Data]]:
    """Yield each item and what `read` returns for it, while a thread reads the next item.

    The data of one more item are in memory for it. Errors of `read` and of the items are raised here, in their turn.
    """
    pairs = ((item, read(item)) for item in items)
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
        following = thread.submit(next, pairs, end)
        while (pair := following.result()) is not end:
            following = thread.submit(next, pairs, end)
            yield pair  # type: ignore[misc]  # never the end
