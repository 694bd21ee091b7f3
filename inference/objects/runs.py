"""Runs of pixels along the last axis: the form in which objects are found, merged and measured, without arrays of pixels."""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Runs:
    """Runs of pixels of one label each, in the order of their pixels.

    Args:
        starts: (n,) numbers of their first pixels on a `Canvas`.
        stops: (n,) numbers of their last pixels plus 1.
        labels: (n,) their labels.
    """

    starts: Integers
    stops: Integers
    labels: Integers

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """Return the runs of all parts, one after the other."""
        nothing = np.zeros((1, 0), np.int64)
        columns = [nothing[0]] * 3
        if parts:
            columns = [np.concatenate(column) for column in zip(*((p.starts, p.stops, p.labels) for p in parts), strict=True)]
        return cls(*columns)

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, index: NDArray[Any] | slice) -> "Runs":
        """Return the runs of an index or a mask."""
        return Runs(self.starts[index], self.stops[index], self.labels[index])

    def merged(self) -> "tuple[Runs, Integers]":
        """Return the runs with those of one label that follow each other joined, and the index of the first run of each."""
        is_first = np.ones(len(self), np.bool_)
        is_first[1:] = (self.starts[1:] != self.stops[:-1]) | (self.labels[1:] != self.labels[:-1])
        firsts = np.flatnonzero(is_first)
        stops = self.stops[np.append(firsts[1:], len(self))[: len(firsts)] - 1]
        return Runs(self.starts[firsts], stops, self.labels[firsts]), firsts

    @property
    def lengths(self) -> Integers:
        """Number of pixels of each."""
        return self.stops - self.starts


@dataclass(frozen=True)
class Canvas:
    """Numbers of an image's pixels, such that a run is an interval of numbers.

    Each axis but the first is one pixel longer than the image's. So runs of different lines never follow each other, and a
    step along an axis from the image's last pixel leads to no pixel of the image.

    Args:
        shape: S of the image.
    """

    shape: tuple[int, ...]

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """Difference between the numbers of neighbouring pixels along each axis."""
        return tuple(prod(size + 1 for size in self.shape[axis + 1 :]) for axis in range(len(self.shape)))

    @property
    def size(self) -> int:
        """Number of pixels of the canvas."""
        return self.shape[0] * self.steps[0]

    def numbers(self, positions: NDArray[Any]) -> Integers:
        """Return the numbers (n,) of pixels at positions (n, dimensions)."""
        numbers: Integers = positions.astype(np.int64) @ np.array(self.steps)
        return numbers

    def positions(self, numbers: Integers) -> Integers:
        """Return the positions (n, dimensions) of numbered pixels."""
        return np.stack(np.unravel_index(numbers, (self.shape[0], *(size + 1 for size in self.shape[1:]))), axis=1)

    def runs(self, labels: NDArray[Any], first: tuple[int, ...]) -> Runs:
        """Return the runs of the labels (*S') above 0 of a region whose first pixel is at the position `first`."""
        width = labels.shape[-1]
        lines = labels.reshape(-1)
        starts_here = np.empty(len(lines), np.bool_)
        np.not_equal(lines[1:], lines[:-1], out=starts_here[1:])
        starts_here[::width] = True
        starts = np.flatnonzero(starts_here)
        values = lines[starts]
        is_labelled = values > 0
        starts, stops = starts[is_labelled], np.append(starts[1:], len(lines))[is_labelled]
        heads = np.moveaxis(np.indices(labels.shape[:-1]), 0, -1).reshape(-1, labels.ndim - 1) + first[:-1]
        line = starts // width
        shift = self.numbers(np.insert(heads, labels.ndim - 1, first[-1], axis=1))[line] - line * width
        return Runs(starts + shift, stops + shift, values[is_labelled].astype(np.int64))

    def components(self, runs: Runs, links: tuple[Integers, Integers] | None = None) -> Integers:
        """Return the number (n,) of each run's component: runs of one label that share sides of pixels.

        Args:
            runs: runs in the order of their pixels; those of one label never touch along the last axis.
            links: pairs of runs that belong together, too.
        """
        pairs = [overlapping(runs, step) for step in self.steps[:-1]]
        first, second = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
        is_same = runs.labels[first] == runs.labels[second]
        first, second = first[is_same], second[is_same]
        if links:
            first, second = np.concatenate([first, links[0]]), np.concatenate([second, links[1]])
        graph = coo_array((np.ones(len(first), np.bool_), (first, second)), shape=(len(runs), len(runs)))
        components: Integers = connected_components(graph, directed=False)[1].astype(np.int64)
        return components


def overlapping(runs: Runs, step: int) -> tuple[Integers, Integers]:
    """Return all pairs of runs of which the second contains a pixel that is `step` after one of the first."""
    lower = np.searchsorted(runs.stops, runs.starts + step, side="right")
    upper = np.searchsorted(runs.starts, runs.stops + step, side="left")
    counts = np.maximum(upper - lower, 0)
    return np.repeat(np.arange(len(runs)), counts), ranges(lower, counts)


def ranges(starts: Integers, counts: Integers) -> Integers:
    """Return the numbers start, start + 1, .. of each range of that many, one range after the other."""
    first = np.cumsum(counts) - counts
    return np.repeat(starts - first, counts) + np.arange(int(counts.sum()))


@dataclass(frozen=True)
class Groups:
    """Runs in groups: the pieces of a mask, or its objects.

    Args:
        runs: the runs of the first group in the order of their pixels, then those of the second, and so on.
        bounds: (groups + 1,) index of each group's first run, and the number of all runs.
    """

    runs: Runs
    bounds: Integers

    @classmethod
    def by(cls, runs: Runs, group: Integers) -> "Groups":
        """Return runs grouped by numbers (n,); the groups are in the order of their numbers."""
        order = np.argsort(runs.starts, kind="stable")
        for shift in range(0, int(group.max(initial=0)).bit_length(), 16):  # by digits: NumPy sorts 16 bits 20 times as fast
            digits = (group[order] >> shift).astype(np.uint16)
            order = order[np.argsort(digits, kind="stable")]
        changes = np.flatnonzero(np.diff(group[order])) + 1
        bounds = np.concatenate([[0], changes, [len(runs)]]) if len(runs) else np.zeros(1, np.int64)
        return cls(runs.take(order), bounds)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def counts(self) -> Integers:
        """Number of runs of each group."""
        return np.diff(self.bounds)

    @property
    def of_runs(self) -> Integers:
        """Group of each run."""
        return np.repeat(np.arange(len(self)), self.counts)

    @property
    def labels(self) -> Integers:
        """Label of each group's first run."""
        return self.runs.labels[self.bounds[:-1]]

    @property
    def firsts(self) -> Integers:
        """Number of each group's first pixel."""
        return self.runs.starts[self.bounds[:-1]]

    @property
    def lasts(self) -> Integers:
        """Number of each group's last pixel."""
        return self.runs.stops[self.bounds[1:] - 1] - 1

    @property
    def areas_px(self) -> Integers:
        """Number of pixels of each group."""
        return self.sums(self.runs.lengths)

    def sums(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the sum over each group's runs of values (n, ..)."""
        return np.add.reduceat(values, self.bounds[:-1], axis=0) if len(self) else values[:0]

    def merged(self) -> "Groups":
        """Return the groups with runs that follow each other joined."""
        runs, firsts = self.runs.merged()
        return Groups(runs, np.searchsorted(firsts, self.bounds))

    def take(self, order: NDArray[Any]) -> "Groups":
        """Return the groups of an index or a mask."""
        order = np.flatnonzero(order) if order.dtype == np.bool_ else order
        counts = self.counts[order]
        runs = self.runs.take(ranges(self.bounds[:-1][order], counts))
        return Groups(runs, np.concatenate([[0], np.cumsum(counts)]))
