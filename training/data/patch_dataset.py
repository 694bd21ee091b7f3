"""Labelled images -> random patches to train on, and whole images to validate on."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from configs.schema import Config
from datasets.cases import Case, prefix_errors
from datasets.image_labels import label_number
from imaging.errors import DataError
from inference.tiling.grid import read_mirrored
from training.data.open_cases import LabelledImage, OpenCases, Statistics, TrainingImage, open_labelled
from training.data.styles import read_styles
from training.data.training_patch import TrainingPatch
from training.objective.targets import Targets
from transforms.augment import make_augment

PATCHES_A_DRAW = 4  # patches of an image, on average, that share what augmentation draws for the whole image


class Draw(NamedTuple):
    """Which patch of the run, of which case, both by number, and where it begins in S order."""

    patch: int
    case: int
    start: tuple[int, ...]


class PatchDataset(Dataset[TrainingPatch]):
    """Random training patches; a patch depends on the seed and on its draw alone.

    What augmentation draws for a whole image, its contrast curve and its style, depends on the seed, the case and the
    pass, and a pass ends when the cases gave PATCHES_A_DRAW patches each, on average.

    Files are opened when they are used, in each worker process, and `trainer.cache_mib` of them stay open.

    Args:
        cases: what to cut from.
        config: the run's.
        statistics: of the cases, where they were read before, by the case's number.
    """

    def __init__(self, cases: Sequence[Case], config: Config, statistics: Mapping[int, Statistics] | None = None) -> None:
        self.cases = cases
        self.config = config
        self.augment = make_augment(config.augment, config.data.dimensions, read_styles(config), config.data.spacing_um)
        self.targets = Targets(config)
        self.labels = [label_number(case, config.image_label.classes) for case in cases]
        self.opened = OpenCases(cases, config, config.trainer.cache_mib * 2**20, statistics)

    def __getitem__(self, draw: Draw) -> TrainingPatch:
        """The patch; with `augment.mask_borders` pixels beyond the image's border don't count.

        Raises:
            DataError: with the case's name: whatever kept the patch from being cut.
        """
        case = self.cases[draw.case]
        try:
            labelled = self.opened[draw.case]
            with prefix_errors(case):
                image, reference, inside = self._cut(labelled, draw)
        except DataError:
            raise
        except Exception as error:  # a library's, about a file that changed or that nobody foresaw
            raise DataError(
                "case_failed",
                f"case {case.name}: no patch can be cut: {type(error).__name__}: {error}; check its files with "
                "overtile inspect, or leave the case out",
            ) from error
        targets = self.targets(reference, inside)
        return TrainingPatch(torch.from_numpy(image), *targets, torch.tensor(draw.case), torch.tensor(self.labels[draw.case]))

    def _cut(self, labelled: TrainingImage, draw: Draw) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.bool_] | None]:
        """Image (C, *patch), reference (channels, *patch) and, with masked borders, which pixels count (*patch)."""
        region = tuple(slice(first, first + size) for first, size in zip(draw.start, self.config.patch_size, strict=True))
        image = labelled.statistics.normalise(read_mirrored(labelled.image, region))
        reference = read_mirrored(labelled.reference, region)
        within = _within(region, labelled.image.shape) if self.config.augment.mask_borders else None
        if self.config.augment.probability == 0:
            return image, reference, within
        if within is not None:  # moves along as one more channel
            reference = np.concatenate([reference, within[None].astype(reference.dtype)])
        moved = self.augment(
            image,
            reference,
            np.random.default_rng((self.config.run.seed, draw.patch, 1)),
            limits=labelled.statistics.limits,
            image_random=self._image_random(draw),
        )
        if within is None:
            return moved.image, moved.reference, None
        return moved.image, moved.reference[:-1], moved.inside & (moved.reference[-1] > 0)

    def _image_random(self, draw: Draw) -> np.random.Generator:
        """Equal for patches of one case and pass."""
        key = (draw.case, draw.patch // (PATCHES_A_DRAW * len(self.cases)))
        return np.random.default_rng(np.random.SeedSequence(self.config.run.seed, spawn_key=key))


class ValidationDataset(Dataset[LabelledImage]):
    """Whole labelled images on their own grids, one open at a time."""

    def __init__(self, cases: Sequence[Case], config: Config) -> None:
        self.cases = cases
        self.config = config
        self.opened: LabelledImage | None = None

    def __getitem__(self, index: int) -> LabelledImage:
        """The labelled image itself, without a batch dimension; open until the next one is asked for."""
        if self.opened is not None:
            self.opened.close()
        self.opened = open_labelled(self.cases[index], self.config)
        return self.opened

    def __len__(self) -> int:
        return len(self.cases)


def _within(region: tuple[slice, ...], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which pixels of a region lie in an image of that shape, and not beyond its border."""
    within = np.zeros([axis.stop - axis.start for axis in region], bool)
    within[tuple(slice(max(0, -axis.start), size - axis.start) for axis, size in zip(region, shape, strict=True))] = True
    return within
