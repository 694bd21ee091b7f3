"""Prefetching: the next item is read in a thread while the current one is in use."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Data = TypeVar("Data")


def prefetch(read: Callable[[Item], Data], items: Iterable[Item]) -> Iterator[tuple[Item, Data]]:
    """Yield each item and what `read` returns for it, while a thread reads the next item.

    The data of two items are in memory at a time. Errors of `read` and of the iterable are raised when their item is due.
    """
    pairs = ((item, read(item)) for item in items)
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
        following = thread.submit(next, pairs, end)
        while (pair := following.result()) is not end:
            following = thread.submit(next, pairs, end)
            yield pair  # type: ignore[misc]  # never the end
