"""Values of classes: which labels or colours the pixels of each class have in a reference."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.sections import DataSection, PixelValue

MAX_COLOURS = 64  # of references; more come from smoothed edges, or the picture is a photograph

Pixels = NDArray[Any]


@dataclass(frozen=True)
class ClassValues:
    """Values of the pixels of each class.

    Args:
        names: names of the classes in their order.
        values: values of each class; a value may belong to several classes, which then overlap.
        ignored: value of the pixels that are neither trained on nor scored; None where there is none.
        by_colour: values are colours, 0xRRGGBB.
    """

    names: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]
    ignored: int | None = None
    by_colour: bool = False

    @classmethod
    def from_config(cls, data: DataSection) -> "ClassValues | None":
        """Return the values that a config gives; None where labels are the indices of the classes."""
        if not data.has_values:
            return None
        names = tuple(section.name for section in data.classes)
        values = tuple(tuple(map(value_number, data.values_of(index))) for index in range(len(names)))
        ignored = None if data.ignore_label is None else value_number(data.ignore_label)
        return cls(names, values, ignored, data.has_colours)

    @property
    def ignore_index(self) -> int | None:
        """Label of the ignored pixels among the indices of the classes; None where no pixel is ignored."""
        if self.ignored is None:
            return None
        return 255 if len(self.names) <= 255 else 65535

    @property
    def overlap(self) -> bool:
        """Return whether a value belongs to several classes."""
        values = [value for values in self.values for value in values]
        return len(set(values)) < len(values)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Smallest type that holds the indices and the label of ignored pixels."""
        return np.dtype(np.uint8 if len(self.names) <= 255 else np.uint16)

    @property
    def text(self) -> str:
        """Values with the names of their classes, as messages give them."""
        pairs = zip(self.names, self.values, strict=True)
        items = [f"{value_text(value, self.by_colour)} ({name})" for name, values in pairs for value in values]
        items += [] if self.ignored is None else [f"{value_text(self.ignored, self.by_colour)} (ignored)"]
        return ", ".join(items)

    @cached_property
    def _sorted_values(self) -> NDArray[np.int64]:
        values = {value for values in self.values for value in values} | (set() if self.ignored is None else {self.ignored})
        return np.array(sorted(values), np.int64)

    def is_known(self, pixels: Pixels) -> NDArray[np.bool_]:
        """Return which pixels have one of the values."""
        return np.asarray(self._sorted_values[self._places(pixels)] == pixels)

    def to_indices(self, pixels: Pixels) -> Pixels:
        """Return the index of each pixel's class (1, *S), all of whose values are known; classes must not overlap."""
        index_of = {value: index for index, values in enumerate(self.values) for value in values}
        return self._table(index_of)[self._places(pixels)]

    def to_channels(self, pixels: Pixels) -> Pixels:
        """Return a channel for each class but the first (K - 1, *S), with 1 for its pixels, from pixels (1, *S)."""
        places = self._places(pixels)[0]
        return np.stack([self._table(dict.fromkeys(values, 1))[places] for values in self.values[1:]])

    def _places(self, pixels: Pixels) -> NDArray[np.intp]:
        if pixels.dtype == np.uint8:
            return np.asarray(self._search(np.arange(256))[pixels])
        return self._search(pixels)

    def _search(self, pixels: Pixels) -> NDArray[np.intp]:
        return np.searchsorted(self._sorted_values, pixels).clip(max=len(self._sorted_values) - 1)

    def _table(self, label_of: dict[int, int]) -> Pixels:
        """Return the label of each known value, in their order; 0 for values that `label_of` lacks."""
        labels = {value: label_of.get(value, 0) for value in self._sorted_values.tolist()}
        if self.ignored is not None and self.ignore_index is not None:
            labels[self.ignored] = self.ignore_index
        return np.array(list(labels.values()), self.dtype)


def value_number(value: PixelValue) -> int:
    """Return a value of a config as a number: a label, or 0xRRGGBB of a colour."""
    return int(value.removeprefix("#"), 16) if isinstance(value, str) else value


def value_text(value: int, by_colour: bool) -> str:
    """Return a value as a config and a message write it: a label, or #rrggbb."""
    return f"#{value:06x}" if by_colour else str(value)


def is_gapless(values: Iterable[int]) -> bool:
    """Return whether values are 0, 1, 2 .. in this order."""
    return all(index == value for index, value in enumerate(values))
