"""Spacing of nnU-Net's 3D TIFF, which stands in a JSON file beside the images: {"spacing": [z, y, x]}, in mm."""

import json
import math
from pathlib import Path

from imaging.errors import DataError

MICROMETRES = 1000  # in a millimetre
AXES = {2: "", 3: "ZYX"}  # of the TIFF, by the number of its spacings


def read_tiff_spacing(path: Path) -> tuple[str, str]:
    """Return the spacing in micrometres and the axes, as a table has them; empty where there is no such file.

    Raises:
        DataError: `cases_invalid`: the file does not hold a spacing.
    """
    if not path.is_file():
        return "", ""
    try:
        values = json.loads(path.read_bytes())["spacing"]
        spacing = list(map(float, values)) if isinstance(values, list) else []
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        spacing = []
    if len(spacing) not in AXES or not all(math.isfinite(value) and value > 0 for value in spacing):
        raise DataError(
            "cases_invalid", f'{path} does not hold a spacing; write {{"spacing": [z, y, x]}} in mm, with numbers above 0'
        )
    return ";".join(f"{value * MICROMETRES:.10g}" for value in spacing), AXES[len(spacing)]
