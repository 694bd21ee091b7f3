"""Annotations from QuPath (GeoJSON), Aperio (XML), LabelMe or COCO, read as a reference of labels that are drawn by region."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from shapely import STRtree, box

from datasets.declared.declaration import BACKGROUND
from datasets.discovery.outlines import (
    MAX_ANNOTATION_BYTES,
    UNCLASSIFIED,
    Outline,
    Ring,
    coco_outlines,
    is_coco_content,
    is_labelme,
    labelme_outlines,
    read_json,
    to_ring,
)
from imaging.errors import BrokenImage, ImageTooLarge, UnsuitableImage
from imaging.outlines.polygons import rasterise
from imaging.source import Geometry, ImageSource, Level, MaskFormat, Region

MAX_CLASSES = 256  # labels have 8 bits
IGNORED = "Ignore*"  # QuPath's class of what its classifiers ignore
NOT_A_CLASS = "*"  # at the end of the name of other classes that QuPath's classifiers do not train, such as Region*
NAMES_SHOWN = 8

_PROGRAMS = {"ASAP_Annotations": "ASAP", "annotation": "Pascal VOC", "annotations": "CVAT"}  # by the root's tag
_HEAD_BYTES = 2**12
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DECLARATIONS = re.compile(rb"<!(DOCTYPE|ENTITY)", re.IGNORECASE)


class AnnotationSource(ImageSource):
    """Annotations as a reference of labels (1, H, W), uint8; pixels outside all outlines are 0, and later outlines win.

    Args:
        path: GeoJSON, LabelMe's or COCO's JSON, or Aperio's XML.
        geometry: geometry of the image.
        levels: levels of the image.
        classes: class names in the order of their labels, the background first.
        ignore_label: label of QuPath's class `Ignore*`, unless that is among the classes.
        numbered: number the objects 1, 2 .. in the file's order, int32, instead of labelling them; label 0 stays 0, and the
            ignored label is left out.
        image: file of the image, by which a COCO file knows it.

    Raises:
        BrokenImage: `annotations_broken`.
        ImageTooLarge: `annotations_too_large`.
        UnsuitableImage: `outlines_unclassified`; `annotation_classes_unknown`, with every name; `dimension_not_supported` on a
            volume.
    """

    mask_format: ClassVar[MaskFormat] = "tiff"

    def __init__(
        self,
        path: Path,
        geometry: Geometry,
        levels: tuple[Level, ...],
        classes: Sequence[str],
        *,
        ignore_label: int | None = None,
        numbered: bool = False,
        image: Path | None = None,
    ) -> None:
        if len(geometry.shape) != 2:
            raise UnsuitableImage("dimension_not_supported", "annotations lie on slides; give a volume a reference of voxels")
        outlines = read_outlines(path, geometry.origin_px or (0, 0), image, geometry.shape)
        self._labels = _labels_of(outlines, classes, ignore_label)
        if numbered:
            numbers = (number for number in count(1) if number != ignore_label)
            self._labels = [
                label if label in (0, ignore_label) else number for label, number in zip(self._labels, numbers, strict=False)
            ]
        self._rings = [outline.rings for outline in outlines]
        points = [np.concatenate(rings) for rings in self._rings]
        self._tree = STRtree([box(*each.min(axis=0)[::-1], *each.max(axis=0)[::-1]) for each in points])
        dtype = np.dtype(np.int32) if numbered else np.promote_types(np.uint8, np.min_scalar_type(ignore_label or 0))
        super().__init__(geometry, 1, dtype, levels)

    @property
    def held_bytes(self) -> int:
        """Memory of the outlines' points."""
        return sum(ring.nbytes for rings in self._rings for ring in rings)

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        scale = np.array(self.shape) / self.levels[level].shape
        rows, columns = region
        corners = np.array([[rows.start, columns.start], [rows.stop, columns.stop]]) * scale
        labels = np.zeros((rows.stop - rows.start, columns.stop - columns.start), self.dtype)
        for number in sorted(self._tree.query(box(*corners[:, ::-1].reshape(-1))).tolist()):
            _draw_object(labels, region, [ring / scale for ring in self._rings[number]], self._labels[number])
        return labels[None]  # (1, H, W)


def is_annotation(path: Path) -> bool:
    """Return whether the file begins like JSON or XML."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES).removeprefix(_BYTE_ORDER_MARK).lstrip()
    return head[:1] in (b"{", b"[", b"<")


def read_outlines(
    path: Path, origin_px: tuple[int, ...], image: Path | None = None, shape: tuple[int, ...] | None = None
) -> tuple[Outline, ...]:
    """Read the polygons of a file in its order.

    Args:
        path: GeoJSON, LabelMe's or COCO's JSON, or Aperio's XML.
        origin_px: where QuPath's coordinates start; others start at the first pixel.
        image: file of the image, whose outlines are taken from a COCO file; None takes those of all images.
        shape: shape of the image, which LabelMe and COCO repeat; None where it is not known.

    Raises:
        BrokenImage: `annotations_broken`.
        ImageTooLarge: `annotations_too_large`.
        DataError: `reference_shape`, `reference_missing`, `annotations_not_supported`.
    """
    size = path.stat().st_size
    if size > MAX_ANNOTATION_BYTES:
        raise ImageTooLarge(
            "annotations_too_large",
            f"the annotations have {size} bytes, at most {MAX_ANNOTATION_BYTES} are read; export them as a label image",
            MAX_ANNOTATION_BYTES,
        )
    try:
        with path.open("rb") as file:
            is_xml = file.read(_HEAD_BYTES).removeprefix(_BYTE_ORDER_MARK).lstrip()[:1] == b"<"
        if is_xml:
            return tuple(aperio_outlines(path.read_bytes().removeprefix(_BYTE_ORDER_MARK)))
        content = read_json(path)
        if is_labelme(content):
            return tuple(labelme_outlines(content, shape))
        if is_coco_content(content):
            return tuple(coco_outlines(path, image, shape))
        return tuple(geojson_outlines(content, np.array(origin_px, np.float64)))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, ElementTree.ParseError) as error:
        raise BrokenImage(
            "annotations_broken",
            "the annotations are neither GeoJSON features, nor LabelMe's or COCO's JSON, nor Aperio's XML; export them again",
        ) from error


def geojson_outlines(content: Any, origin: NDArray[np.float64]) -> Iterator[Outline]:
    """Yield the polygons of QuPath's list, a FeatureCollection, a feature or a geometry.

    Each feature is one object, also where its geometry is a collection. Points and lines enclose nothing and are left out.
    """
    features = content
    if isinstance(content, dict):
        features = content.get("features", [content])
    for feature in features:
        is_feature = "geometry" in feature
        rings = tuple(to_ring(ring, origin) for ring in _polygon_rings(feature["geometry"] if is_feature else feature))
        if rings:
            classification = (feature.get("properties") or {}).get("classification") or {}
            names = classification.get("names") or ()  # of a derived class, in newer versions of QuPath
            yield Outline(str(classification.get("name") or ": ".join(map(str, names)) or UNCLASSIFIED), rings)


def _polygon_rings(geometry: Mapping[str, Any] | None) -> Iterator[Any]:
    """Yield the rings of all polygons in a geometry; None is a feature without a place."""
    if geometry is None:
        return
    kind = geometry["type"]
    if kind == "Polygon":
        yield from geometry["coordinates"]
    elif kind == "MultiPolygon":
        yield from (ring for part in geometry["coordinates"] for ring in part)
    elif kind == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _polygon_rings(part)


def aperio_outlines(content: bytes) -> Iterator[Outline]:
    """Yield the regions of Aperio's layers; the layer's name is the class, and negative regions are left out.

    Raises:
        UnsuitableImage: `annotations_not_supported`: the XML is of another program.
    """
    if _DECLARATIONS.search(content):
        raise ValueError("declarations are refused, because they can expand without limit")
    root = ElementTree.fromstring(content)  # noqa: S314  (no declarations)
    layers = root.findall("Annotation")
    if root.tag != "Annotations" or any(layer.find("Regions") is None for layer in layers):
        program = _PROGRAMS.get(root.tag, f"another program ({root.tag!r})")
        raise UnsuitableImage(
            "annotations_not_supported",
            f"the XML is of {program}, and only ImageScope's is read; convert it to GeoJSON, with QuPath for example",
        )
    for layer in layers:
        attribute = layer.find("./Attributes/Attribute")
        name = layer.get("Name") or (attribute.get("Name") if attribute is not None else None) or UNCLASSIFIED
        for region in layer.iter("Region"):
            points = [(float(vertex.attrib["X"]), float(vertex.attrib["Y"])) for vertex in region.iter("Vertex")]
            if region.get("NegativeROA") != "1" and len(points) > 2:
                yield Outline(name, (to_ring(points, np.zeros(2)),))


def _labels_of(outlines: Sequence[Outline], classes: Sequence[str], ignore_label: int | None) -> list[int]:
    label_of = {name: label for label, name in reversed(list(enumerate(classes[:MAX_CLASSES])))}
    if ignore_label is not None:
        label_of.setdefault(IGNORED, ignore_label)
    names = Counter(outline.name for outline in outlines)
    if UNCLASSIFIED in names and UNCLASSIFIED not in label_of:
        raise UnsuitableImage(
            "outlines_unclassified",
            f"{names[UNCLASSIFIED]} of {len(outlines)} outlines have no class; give them one or remove them, or, if they are a "
            f"class of their own, name it: overtile plan --classes {BACKGROUND},..,{UNCLASSIFIED}",
        )
    unknown = [f"{name!r} ({number} outlines)" for name, number in sorted(names.items()) if name not in label_of]
    if unknown:
        more = f" and {len(unknown) - NAMES_SHOWN} more" if len(unknown) > NAMES_SHOWN else ""
        ignored = f", and set data.ignore_label for {IGNORED}" if IGNORED in names and IGNORED not in label_of else ""
        raise UnsuitableImage(
            "annotation_classes_unknown",
            f"reference has outlines of {', '.join(unknown[:NAMES_SHOWN])}{more}; "
            f"allowed are {', '.join(map(repr, classes[:MAX_CLASSES]))}: rename them, or add them to data.classes{ignored}",
        )
    return [label_of[outline.name] for outline in outlines]


def _draw_object(labels: NDArray[Any], region: Region, rings: Sequence[Ring], label: int) -> None:
    """Fill one object into the labels of a region; only the pixels within the object's bounds are visited."""
    points = np.concatenate(rings)
    first = np.maximum(np.floor(points.min(axis=0)).astype(int), [axis.start for axis in region])
    last = np.minimum(np.ceil(points.max(axis=0)).astype(int), [axis.stop for axis in region])
    if (first >= last).any():
        return
    part = slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1]))
    inside = tuple(slice(one.start - axis.start, one.stop - axis.start) for one, axis in zip(part, region, strict=True))
    labels[inside][rasterise(rings, part)] = label
