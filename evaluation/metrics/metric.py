"""Metrics: what each is called, what it is computed from, and which direction is better.

A metric is a function in one of the files of this folder, an entry in `registry.METRICS`, and a file of tests. What it takes
depends on its kind:

    kind            the function takes                                          computed
    overlap         BinaryCounts of a class                                     band by band
    structure       StructurePair of a class                                    on the whole case
    objects         ObjectPair of a class                                       on the whole case
    membranes       MembranePair of the first class                             on the whole case
    ordinal         confusion matrix (K, K) of the classes, as ordered grades   band by band
    calibration     CalibrationCounts                                           band by band
    image_labels    LabelledImages                                              over all cases
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

ONE_SIDED = "one_sided"  # remark of a score: only the mask or only the reference has the structure, or objects

Kind = Literal["overlap", "structure", "objects", "membranes", "ordinal", "calibration", "image_labels"]
Better = Literal["higher", "lower", "zero"]


class BinaryCounts(NamedTuple):
    """Pixels of one class in a mask and its reference.

    Args:
        true_positives: pixels that both have.
        false_positives: pixels that only the mask has.
        false_negatives: pixels that only the reference has.
    """

    true_positives: int
    false_positives: int
    false_negatives: int


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Metric of a mask against its reference.

    Args:
        name: key in tables and options, such as hd95.
        title: name on pages, such as HD95.
        convention: one or two sentences that say what is computed where libraries differ, and the source.
        kind: what the function takes, see the module.
        better: direction of better values; zero: the nearer to 0, such as for a difference of volumes.
        unit: empty, "%", or "distance": micrometres, or pixels where the spacing is unknown.
        limits: smallest and largest possible value, beyond which no interval of a mean reaches.
        function: returns the value, NaN where the metric isn't defined.
    """

    name: str
    title: str
    convention: str
    kind: Kind
    better: Better = "higher"
    unit: Literal["", "%", "distance"] = ""
    limits: tuple[float, float] = (0.0, 1.0)
    function: Callable[[Any], float]
