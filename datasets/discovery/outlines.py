"""Outlines of objects, and the JSON files of LabelMe and COCO that hold them."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.errors import DataError, UnsuitableImage

MAX_ANNOTATION_BYTES = 2**29
MAX_COORDINATE_PX = 2**31
UNCLASSIFIED = "unclassified"

_CIRCLE_CORNERS = 72
_LABELME_BACKGROUND = "_background_"
_OPEN_SHAPES = ("point", "points", "line", "linestrip")  # of LabelMe; they enclose nothing
_HEAD_BYTES = 2**12
_COCO_START = re.compile(rb'^\s*\{\s*"(info|licenses|images|annotations|categories|type)"\s*:')

Ring = NDArray[np.float64]  # (n, 2): (y, x), level-0 pixel corners


@dataclass(frozen=True)
class Outline:
    """Outline of one object: the name of its class, and its outer and inner rings (even-odd rule)."""

    name: str
    rings: tuple[Ring, ...]


def to_ring(points: Sequence[Sequence[float]], origin: NDArray[np.float64]) -> Ring:
    """Convert points (x, y) to a ring of (y, x).

    Raises:
        ValueError: there are fewer than three points, or a number is not finite.
    """
    ring = np.array(points, np.float64)[:, 1::-1]  # (n, 2): (y, x), without a third coordinate
    if len(ring) < 3 or ring.shape[1] != 2 or not (np.abs(ring) < MAX_COORDINATE_PX).all():  # also refuses NaN
        raise ValueError("a ring needs three points of two numbers")
    return ring + origin


def is_labelme(content: Any) -> bool:
    """Return whether a JSON is LabelMe's, which has the shapes of one image."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list)


def labelme_outlines(content: Mapping[str, Any], shape: tuple[int, ...] | None) -> Iterator[Outline]:
    """Yield the polygons, rectangles and circles of a LabelMe file; points and lines enclose nothing and are left out.

    Args:
        content: the parsed JSON.
        shape: shape of the image; None where it is not known.

    Raises:
        DataError: `reference_shape`: the file was drawn on an image of another size.
        UnsuitableImage: `annotations_not_supported`: a shape is a mask.
    """
    _check_size(shape, content.get("imageHeight"), content.get("imageWidth"))
    for entry in content["shapes"]:
        kind, points, name = entry.get("shape_type") or "polygon", entry["points"], str(entry["label"] or UNCLASSIFIED)
        if kind == "rectangle":
            (left, top), (right, bottom) = points[0], points[-1] if len(points) == 2 else points[2]
            points = [(left, top), (right, top), (right, bottom), (left, bottom)]
        elif kind == "circle":
            (x, y), radius = points[0], math.dist(points[0], points[1])
            angles = np.linspace(0, 2 * np.pi, _CIRCLE_CORNERS, endpoint=False)
            points = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1).tolist()
        elif kind in _OPEN_SHAPES:
            continue
        elif kind not in ("polygon", "rotation"):
            raise UnsuitableImage(
                "annotations_not_supported",
                f"the LabelMe file has a shape of type {kind!r}; polygons, rectangles and circles are read, save masks as a "
                "PNG of labels",
            )
        if name != _LABELME_BACKGROUND:
            yield Outline(name, (to_ring(points, np.zeros(2)),))


def is_coco_content(content: Any) -> bool:
    """Return whether a JSON is COCO's, which lists images, annotations and categories."""
    keys = ("images", "annotations", "categories")
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in keys)


def is_coco(path: Path) -> bool:
    """Return whether a file is COCO's JSON."""
    if not path.is_file() or path.stat().st_size > MAX_ANNOTATION_BYTES:
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not _COCO_START.search(head):
        return False
    try:
        return is_coco_content(read_json(path))
    except (ValueError, RecursionError):
        return False


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; that of the last file is kept, since COCO's is read for each of its images.

    Raises:
        ValueError, RecursionError: it is no JSON.
    """
    return _parsed(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _parsed(path: Path, _time_ns: int) -> Any:
    return json.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))


@lru_cache(maxsize=2)
def _annotations_by_image(path: Path, time_ns: int) -> Mapping[Any, Sequence[Mapping[str, Any]]]:
    annotations: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for annotation in _parsed(path, time_ns)["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    return annotations


def coco_outlines(path: Path, image: Path | None, shape: tuple[int, ...] | None) -> Iterator[Outline]:
    """Yield the polygons of one image in a COCO file; an object of several polygons is one outline.

    Args:
        path: the file.
        image: file of the image; None yields the outlines of all images.
        shape: shape of the image; None where it is not known.

    Raises:
        DataError: `reference_shape`: the file declares another size of the image; `reference_missing`: it does not list it.
        UnsuitableImage: `annotations_not_supported`: an object is run-length encoded.
    """
    content, by_image = read_json(path), _annotations_by_image(path, path.stat().st_mtime_ns)
    entries = [entry for entry in content["images"] if image is None or _is_same_file(image, str(entry["file_name"]))]
    if not entries:
        raise DataError(
            "reference_missing", f"the COCO file does not list {image.name if image else 'any image'}; add it there"
        )
    if image is not None:
        _check_size(shape, entries[0].get("height"), entries[0].get("width"))
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    for annotation in chain.from_iterable(by_image.get(entry["id"], ()) for entry in entries):
        polygons = annotation.get("segmentation") or []
        if isinstance(polygons, dict):
            raise UnsuitableImage(
                "annotations_not_supported",
                "the COCO file has an object as run-length encoding (RLE), and only polygons are read; convert it to polygons, "
                "or save each image's objects as a label image, such as PNG",
            )
        rings = tuple(to_ring(list(zip(ring[::2], ring[1::2], strict=True)), np.zeros(2)) for ring in polygons)
        if rings:
            yield Outline(names[annotation["category_id"]], rings)


def _is_same_file(path: Path, name: str) -> bool:
    parts = Path(name).parts
    return path.parts[-len(parts) :] == parts


def _check_size(shape: tuple[int, ...] | None, height: int | None, width: int | None) -> None:
    if shape is not None and height and width and (height, width) != shape:
        raise DataError(
            "reference_shape",
            f"the annotations were drawn on an image of {height} x {width} pixels, and this one has {shape[0]} x {shape[1]}; "
            "export them from this image",
        )
