"""The pass over an image's finished rows: its objects are found, and its mask is summarised."""

from dataclasses import dataclass, replace
from pathlib import Path

from inference.outputs.image_files import ImageFiles, OpenFiles
from inference.outputs.object_files import FinishedRows, write_objects
from inference.outputs.summary import SUMMARY, PixelCounts, summary_of, write_summary
from inference.plan import ImagePlan
from inference.predictors.ensemble import predictors_of
from inference.segment import Progress, Segmentation

BAND_BYTES = 2**20  # of the mask's rows that are counted at a time; NumPy's count takes eight times as much


@dataclass(frozen=True)
class FinishedImage:
    """Image whose rows are finished.

    Args:
        plan: plan of the image.
        name: name of the image; None: not known.
        files: files of the image.
        rows: open files with the finished rows.
        folder: folder for unfinished files, on the disk of the outputs.
    """

    plan: ImagePlan
    name: str | None
    files: ImageFiles
    rows: OpenFiles
    folder: Path


def measure(image: FinishedImage, result: Segmentation, on_rows: Progress) -> Segmentation:
    """Write the files of the objects and the summary of an image, and return its segmentation with the number of objects.

    Args:
        image: the finished image.
        result: facts about the mask.
        on_rows: called with the number of rows in which objects were looked for, and of all rows.
    """
    plan, files, mask, objects = image.plan, image.files, image.rows.writers["main"][0].rows, None
    if files.objects and image.rows.probabilities:
        budget = predictors_of(plan.predictor)[0].memory_budget
        free_bytes = budget.free_bytes if budget else None
        rows = FinishedRows(plan.source, mask, image.rows.probabilities, on_rows, free_bytes)
        objects = write_objects(files.objects, rows, files.path, image.folder)
        result = replace(result, objects=int(objects.sum()))
    if files.has_summary:
        pixels, start = PixelCounts(plan.predictor.head.classes, mask.shape, plan.part.tissue), 0
        for band in mask.bands(BAND_BYTES):
            pixels.add(start, band)
            start += len(band)
        content = summary_of(plan, image.name, result.warnings, pixels, objects)
        write_summary(files.path(SUMMARY), content, image.folder)
    return result
