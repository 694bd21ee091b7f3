"""Pictures of a run for its page and for TensorBoard: the first batch, tracked cases, filters, features of each level."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.schema import Config
from evaluation.picture_regions import enlarge, region_with_most_foreground
from evaluation.rendering import to_png
from inference.predictors.predictor import Predictor
from inference.tiling.grid import read_mirrored
from inference.tiling.stitch import Band
from training.data.open_cases import open_training_image
from training.data.patch_dataset import TrainingPatch
from training.data.splitting import Splits
from training.monitoring.history import MonitoringFolder, mask_name
from training.monitoring.tensor_pictures import activations, filter_picture, input_picture, weight_picture
from training.monitoring.tensorboard_log import RunLogger
from training.monitoring.tracked_cases import TrackedCase, comparison_sheet, mask_overlay, pale_picture, track_cases

MOST_PATCHES = 8  # of the first batch


class PictureRecorder:
    """Draws a run's pictures; neither draws from a generator nor changes a mode or a weight of the network.

    Args:
        files: where pictures and captions go.
        config: the run's.
        splits: the run's cases.
        predictor: its network is the one that is trained.
    """

    def __init__(self, files: MonitoringFolder, config: Config, splits: Splits, predictor: Predictor) -> None:
        self.files = files
        self.config = config
        self.splits = splits
        self.predictor = predictor
        self.colours = [section.colour for section in config.data.classes]
        self.cases: dict[str, TrackedCase] = {}
        self.probe: Tensor | None = None  # (1, C, *patch), the input of the features' pictures

    def draw_tracked_cases(self, processes: int) -> None:
        """Draw image and reference of the cases that are tracked, and read the patch whose features are shown.

        Args:
            processes: of the run; this one, the first, validates every `processes`-th case and tracks only those.
        """
        cases = track_cases(self.splits.val[::processes], self.config, self.predictor.head)
        self.cases = {case.name: case for case in cases}
        for number, case in enumerate(cases):
            self._write(f"case{number}_image.png", enlarge(case.picture, case.aspect))
            self._write(f"case{number}_pale.png", pale_picture(case))
            self._write(f"case{number}_reference.png", mask_overlay(case, case.reference, self.colours))
        self.files.set_captions("cases", [(case.name, case.location) for case in cases])
        labelled = open_training_image(self.splits.val[0], self.config)
        with labelled.image as image, labelled.reference as reference:
            centre = [(axis.start + axis.stop) // 2 for axis in region_with_most_foreground(reference)]
            starts = [middle - size // 2 for middle, size in zip(centre, self.config.patch_size, strict=True)]
            region = tuple(slice(start, start + size) for start, size in zip(starts, self.config.patch_size, strict=True))
            patch = labelled.statistics.normalise(read_mirrored(image, region))
        self.probe = torch.from_numpy(patch)[None]  # (1, C, *patch)

    def draw_first_filters(self) -> None:
        """Draw the filters of the first convolution as they are before the first step."""
        self._write("filters_start.png", filter_picture(self.predictor.network))

    def draw_batch(self, batch: TrainingPatch) -> None:
        """Draw the first patches of the first batch of the run, and the weights of their pixels."""
        captions, classes = [], self.config.data.classes
        for number in range(min(MOST_PATCHES, len(batch.image))):
            image, reference, weights = (
                part[number].detach().cpu().numpy() for part in (batch.image, batch.reference, batch.weights)
            )
            self._write(f"batch{number}.png", input_picture(image, reference, self.colours))
            if weights.ndim > 1:  # a window has a single weight, which stands in its caption
                self._write(f"batch{number}_weights.png", weight_picture(weights))
            # a window has one class and one additional weight
            label = f": {classes[int(reference)].name}" if reference.ndim == 0 and int(reference) < len(classes) else ""
            weight = f", weight {weights.item():.2g} more" if weights.size == 1 else ""
            captions.append(f"{self.splits.train[int(batch.case[number])].name}{label}{weight}")
        self.files.set_captions("batch", captions)

    def add_band(self, name: str, band: Band) -> None:
        """Take the rows of a band of a validation case over into its mask, if the case is tracked."""
        if name in self.cases:
            self.cases[name].add(band, self.predictor.head)

    def draw_validation(self, step: int, best_step: int | None, logger: Any) -> None:
        """Draw masks, filters and features after a validation.

        Args:
            step: of the validation.
            best_step: of the best validation, whose masks stay on the disk.
            logger: the trainer's; a RunLogger takes the pictures for TensorBoard.
        """
        for number, case in enumerate(self.cases.values()):
            self._write(mask_name(number, step), mask_overlay(case, case.prediction, self.colours))
        self.files.limit_masks(best_step)
        filters = filter_picture(self.predictor.network)
        self._write("filters.png", filters)
        if self.probe is not None:
            levels = list(activations(self.predictor.network, self.probe.to(self.predictor.device)))
            for number, (_, _, picture) in enumerate(levels):
                self._write(f"level{number}.png", picture)
            self.files.set_captions("levels", [(name, shape) for name, shape, _ in levels])
        if isinstance(logger, RunLogger):
            logger.add_picture("run/filters", filters, step)
            if self.cases:
                sheet = comparison_sheet([*self.cases.values()], self.colours)
                logger.add_picture("run/image, reference, mask", sheet, step)

    def _write(self, name: str, picture: NDArray[Any]) -> None:
        self.files.write_picture(name, to_png(picture))
