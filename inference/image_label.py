"""Label of a whole image, computed from its tiles and bands while they are segmented, without a second pass."""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import softmax

from inference.predictors.ensemble import Ensemble, predictors_of
from inference.predictors.predictor import Predictor
from inference.tiling.grid import Tile
from inference.tiling.stitch import Band
from models.head import Head

CHUNK_BYTES = 2**24  # size of the probabilities that are added to the map at a time
FORMULA_PREFIXES = ("=", "+", "-", "@", "'", "\t", "\r", "\n")  # a spreadsheet reads cells that begin so as formulas

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ImageLabel:
    """Label of a whole image: the `probabilities` of `classes`, in the same order."""

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]

    @property
    def number(self) -> int:
        """Index of the likeliest class, the first one of equals."""
        return int(np.argmax(self.probabilities))

    @property
    def name(self) -> str:
        """Name of the likeliest class."""
        return self.classes[self.number]


def label_classes(predictor: Predictor | Ensemble) -> tuple[str, ...]:
    """Return the classes of an image's label; empty if the predictor predicts no label."""
    for member in predictors_of(predictor):
        if member.predicts_image_label:
            return member.config.image_label.classes
    return ()


class LabelReader:
    """Accumulator of one image's label.

    Networks with an output for the label give logits in every tile; map classifiers read a map that is built from the finished
    bands, of the networks' own probabilities, on which the classifiers were trained. The predictions of several bundles are
    averaged as probabilities, those of one bundle's networks as logits.

    Args:
        predictor: predictor of a bundle, or of several.
        shape: (*S) of the image.
    """

    def __init__(self, predictor: Predictor | Ensemble, shape: tuple[int, ...]) -> None:
        self.classes = label_classes(predictor)
        self._means: dict[Predictor, _RunningMean] = defaultdict(_RunningMean)
        self._classifiers = [
            (member.config.image_label.map_size, classifier)
            for member in predictors_of(predictor)
            for classifier in member.classifiers
        ]
        self._maps = {size: MapReader(predictor.head.uncalibrated, shape, size) for size, _ in self._classifiers}

    def add_tile(self, predictor: Predictor, tile: Tile, logits: Floats) -> None:
        """Add the label's logits (L, *S') of a tile; those outside of its output are ignored."""
        if len(logits):
            self._means[predictor].add(logits[(slice(None), *tile.crop)])

    def add_band(self, band: Band) -> None:
        """Add finished rows of the image on its own grid."""
        for reader in self._maps.values():
            reader.add(band)

    @property
    def label(self) -> ImageLabel | None:
        """Label from all tiles and bands that were added; None if no network predicts one."""
        logits = [mean.logits for mean in self._means.values()]
        with torch.inference_mode():
            for size, classifier in self._classifiers:
                logits.append(classifier(torch.from_numpy(self._maps[size].map)[None])[0].numpy())
        if not logits:
            return None
        probabilities = softmax(np.stack(logits).astype(np.float64), axis=1).mean(axis=0)  # (L,)
        return ImageLabel(self.classes, tuple(probabilities.tolist()))


class _RunningMean:
    """Mean of logits over pixels."""

    def __init__(self) -> None:
        self._sum: NDArray[np.float64] | float = 0.0
        self._pixels = 0

    def add(self, logits: Floats) -> None:
        """Add logits (L, *S)."""
        self._sum = self._sum + logits.reshape(len(logits), -1).sum(axis=1, dtype=np.float64)
        self._pixels += prod(logits.shape[1:])

    @property
    def logits(self) -> NDArray[np.float64]:
        """Mean logits (L,)."""
        return np.asarray(self._sum / self._pixels)


class MapReader:
    """Builder of a map of an image's class probabilities, each of its pixels the mean over the area that it covers.

    The map has `size` pixels along each axis. The image's longest side fills it, and its proportions are kept; the image lies
    in the middle, and around it every class is 0.

    Args:
        head: meaning of the logits.
        shape: (*S) of the image.
        size: pixels of each side of the map.
    """

    def __init__(self, head: Head, shape: tuple[int, ...], size: int) -> None:
        self.head = head
        self._sides = tuple(max(1, round(size * pixels / max(shape))) for pixels in shape)
        self._shares = [area_shares(pixels, side) for pixels, side in zip(shape, self._sides, strict=True)]
        self._before = tuple((size - side) // 2 for side in self._sides)
        self.map: Floats = np.zeros((head.classes, *(size for _ in shape)), np.float32)  # (K, *map)

    def add(self, band: Band) -> None:
        """Add finished rows, in chunks of about CHUNK_BYTES."""
        row_bytes = 4 * self.head.classes * prod(band.logits.shape[2:])
        step = max(1, CHUNK_BYTES // row_bytes)
        place = tuple(slice(first, first + side) for first, side in zip(self._before, self._sides, strict=True))
        for first in range(0, band.logits.shape[1], step):
            averaged = self.head.probabilities(band.logits[:, first : first + step])  # (K, rows, *rest)
            rows = slice(band.start + first, band.start + first + averaged.shape[1])
            for axis in range(len(self._shares), 0, -1):  # the first axis last, since a chunk has few rows
                shares = self._shares[axis - 1]
                values = np.moveaxis(averaged, axis, 0)  # (old, rest)
                mixed = (shares[:, rows] if axis == 1 else shares) @ values.reshape(len(values), -1)  # (new, rest)
                averaged = np.moveaxis(mixed.reshape(-1, *values.shape[1:]), 0, axis)
            self.map[(slice(None), *place)] += averaged


def area_shares(pixels: int, cells: int) -> sparse.csc_array:
    """Return the matrix (cells, pixels) that averages a side's pixels over `cells` equal parts of it; its rows sum to 1."""
    edges = np.union1d(np.arange(pixels + 1.0), np.arange(cells + 1) * (pixels / cells))
    middles, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges) * (cells / pixels)
    rows = np.minimum((middles * (cells / pixels)).astype(np.int64), cells - 1)
    columns = np.minimum(middles.astype(np.int64), pixels - 1)
    return sparse.csc_array((widths.astype(np.float32), (rows, columns)), shape=(cells, pixels))


@contextmanager
def label_table(path: Path, classes: Sequence[str]) -> Iterator[Callable[[str, ImageLabel], None]]:
    """Open a CSV file, and yield a function that appends a line for an image: name, label, and each class's probability.

    Without classes no file is written. Cells that a spreadsheet would take for a formula begin with an apostrophe.
    """
    if not classes:
        yield lambda image, label: None
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("image", "label", *(f"probability {name}" for name in classes)))

        def add(image: str, label: ImageLabel) -> None:
            table.writerow((as_text(image), as_text(label.name), *(f"{each:.6f}" for each in label.probabilities)))
            file.flush()

        yield add


def as_text(cell: str) -> str:
    """Return the cell, with an apostrophe before it if a spreadsheet would take it for a formula."""
    return f"'{cell}" if cell.startswith(FORMULA_PREFIXES) else cell
