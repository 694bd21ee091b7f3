"""Segments of a segmentation that 3D Slicer wrote (.seg.nrrd): their names, labels and layers.

Source: https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html, segmentation file format.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from imaging.nrrd.header import MAX_HEADER_BYTES, is_nrrd

_KEY = re.compile(r"Segment(\d+)_(Name|LabelValue|Layer|Color):=(.*)")


@dataclass(frozen=True)
class Segment:
    """Segment of a segmentation.

    Args:
        name: its name.
        label: label of its voxels in its layer.
        layer: index of the channel that holds it; segments of different layers may overlap.
        colour: "#rrggbb" in which it is shown; empty where none is given.
    """

    name: str
    label: int
    layer: int
    colour: str = ""


def read_segments(path: Path) -> tuple[Segment, ...]:
    """Read the segments from the header of a file; empty unless 3D Slicer wrote it."""
    with path.open("rb") as file:
        head = file.read(MAX_HEADER_BYTES)
    if not is_nrrd(head):
        return ()
    fields: dict[int, dict[str, str]] = {}
    for line in head.split(b"\n\n")[0].decode("utf-8", "replace").splitlines():
        if match := _KEY.fullmatch(line.strip()):
            fields.setdefault(int(match[1]), {})[match[2]] = match[3].strip()
    segments = []
    for number, field in sorted(fields.items()):
        name, label, layer = field.get("Name"), field.get("LabelValue", ""), field.get("Layer", "")
        if name:  # before Slicer 4.11 each segment had a layer of its own, and label 1
            value, layer_number = int(label) if label.isdecimal() else 1, int(layer) if layer.isdecimal() else number
            segments.append(Segment(name, value, layer_number, _colour(field.get("Color", ""))))
    return tuple(segments)


def _colour(text: str) -> str:
    """Convert three shares of 1, such as `0.5 0 1`."""
    try:
        shares = [min(max(float(word), 0), 1) for word in text.split()]
    except ValueError:
        return ""
    return "#" + "".join(f"{round(255 * share):02x}" for share in shares) if len(shares) == 3 else ""
