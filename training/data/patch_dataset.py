"""Data sets of random patches for training and of whole images for validation."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from configs.schema import Config
from datasets.cases import Case, prefix_errors
from datasets.image_labels import label_number
from imaging.errors import DataError
from inference.tiling.grid import read_mirrored
from training.data.open_cases import ImageStatistics, LabelledImage, TrainingImage, TrainingImageCache, open_labelled_image
from training.data.styles import read_styles
from training.objective.targets import Targets
from transforms.augment import make_augment

PATCHES_PER_PASS = 4  # of each case on average; they share the augmentation parameters of the whole image


class PatchLocation(NamedTuple):
    """The number of a patch in the run, the number of its case, and its first pixel in S order."""

    patch: int
    case: int
    start: tuple[int, ...]


class TrainingPatch(NamedTuple):
    """A patch as training uses it, or with a leading B a batch of patches.

    Args:
        image: (C, *patch), float32.
        reference: the target of the loss, made by `Targets`: labels (*patch), int64, and () for a window.
        weights: (*patch), float32, added to the weights of the pixels' classes; (0,) without border weights.
        case: (), int64, number of the training case.
        label: (), int64, of the whole image; -1 if it has none.
    """

    image: Tensor
    reference: Tensor
    weights: Tensor
    case: Tensor
    label: Tensor


class PatchDataset(Dataset[TrainingPatch]):
    """Random training patches, each determined by the run's seed and the patch's location.

    Augmentation parameters of a whole image, its contrast curve and its style, depend on the seed, the case and the pass; a
    pass has PATCHES_PER_PASS patches of each case on average.

    Each worker process opens files when it needs them, and keeps up to `trainer.cache_mib` of them open.

    Args:
        cases: the training cases.
        config: the run's.
        statistics: of images that were read before, by the number of the case.
    """

    def __init__(self, cases: Sequence[Case], config: Config, statistics: Mapping[int, ImageStatistics] | None = None) -> None:
        self.cases = cases
        self.config = config
        self.augment = make_augment(config.augment, config.data.dimensions, read_styles(config), config.data.spacing_um)
        self.targets = Targets(config)
        self.labels = [label_number(case, config.image_label.classes) for case in cases]
        self.images = TrainingImageCache(cases, config, config.trainer.cache_mib * 2**20, statistics)

    def __getitem__(self, location: PatchLocation) -> TrainingPatch:
        """Cut the patch at a location; with `augment.mask_borders` the loss ignores pixels beyond the image's border.

        Raises:
            DataError: the patch can't be cut, for any reason; the message names the case.
        """
        case = self.cases[location.case]
        try:
            labelled = self.images[location.case]
            with prefix_errors(case):
                image, reference, inside = self._cut(labelled, location)
        except DataError:
            raise
        except Exception as error:  # of a library, for example about a file that changed
            raise DataError(
                "case_failed",
                f"case {case.name}: no patch can be cut: {type(error).__name__}: {error}; check its files with "
                "overtile inspect, or leave the case out",
            ) from error
        targets = self.targets(reference, inside)
        return TrainingPatch(
            torch.from_numpy(image), *targets, torch.tensor(location.case), torch.tensor(self.labels[location.case])
        )

    def _cut(
        self, labelled: TrainingImage, location: PatchLocation
    ) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.bool_] | None]:
        """Return image (C, *patch), reference (channels, *patch) and, with masked borders, a mask of valid pixels (*patch)."""
        region = tuple(slice(first, first + size) for first, size in zip(location.start, self.config.patch_size, strict=True))
        image = labelled.statistics.normalise(read_mirrored(labelled.image, region))
        reference = read_mirrored(labelled.reference, region)
        inside = _inside(region, labelled.image.shape) if self.config.augment.mask_borders else None
        if self.config.augment.probability == 0:
            return image, reference, inside
        if inside is not None:  # transformed with the reference, as an additional channel
            reference = np.concatenate([reference, inside[None].astype(reference.dtype)])
        seed = self.config.run.seed
        image_key = (location.case, location.patch // (PATCHES_PER_PASS * len(self.cases)))  # of a case and a pass
        augmented = self.augment(
            image,
            reference,
            np.random.default_rng((seed, location.patch, 1)),
            limits=labelled.statistics.limits,
            image_random=np.random.default_rng(np.random.SeedSequence(seed, spawn_key=image_key)),
        )
        if inside is None:
            return augmented.image, augmented.reference, None
        return augmented.image, augmented.reference[:-1], augmented.inside & (augmented.reference[-1] > 0)


class ValidationDataset(Dataset[LabelledImage]):
    """Whole labelled images at their own spacing, one open at a time."""

    def __init__(self, cases: Sequence[Case], config: Config) -> None:
        self.cases = cases
        self.config = config
        self.current: LabelledImage | None = None

    def __getitem__(self, index: int) -> LabelledImage:
        """Return a labelled image; it stays open until the next one is requested."""
        if self.current is not None:
            self.current.close()
        self.current = open_labelled_image(self.cases[index], self.config)
        return self.current

    def __len__(self) -> int:
        return len(self.cases)


def _inside(region: tuple[slice, ...], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a mask of the pixels of a region that lie within an image of a shape."""
    inside = np.zeros([axis.stop - axis.start for axis in region], bool)
    inside[tuple(slice(max(0, -axis.start), size - axis.start) for axis, size in zip(region, shape, strict=True))] = True
    return inside
