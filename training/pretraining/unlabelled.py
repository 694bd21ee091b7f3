"""Unlabelled images: the cases of a folder without references, and a data set of patches from them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from configs.schema import Config
from datasets.cases import Case, open_case_image, prefix_errors
from datasets.inputs import find_inputs
from imaging.errors import DataError
from imaging.source import ImageSource, Region
from inference.compatibility import at_trained_spacing, check_suitable
from inference.tiling.grid import read_mirrored
from training.data.open_cases import ImageStatistics, TrainingImage, TrainingImageCache, read_statistics


def unlabelled_cases(folder: Path) -> tuple[tuple[Case, ...], tuple[Path, ...]]:
    """Return a case for each image in the folder, as `overtile predict` finds them, and the files that are no images.

    Raises:
        DataError: the folder holds no image (`no_images`), or `find_inputs` refuses it.
    """
    try:
        inputs = find_inputs([folder])
    except DataError as error:
        if error.code != "no_inputs":
            raise
        remedy = "set pretrain.images to a folder with unlabelled images"
        raise DataError("no_images", f"{folder} holds no image; {remedy}") from error
    return tuple(Case(image.stem, image.paths, spacing_um=image.spacing_um) for image in inputs.images), inputs.skipped


def open_unlabelled(case: Case, config: Config, statistics: ImageStatistics | None = None) -> TrainingImage:
    """Open an image at the trained spacing, with an empty reference.

    Raises:
        DataError: the image can't be read, or doesn't fit the config.
    """
    with prefix_errors(case):
        stored = open_case_image(case)
        try:
            check_suitable(stored, config)
            image = at_trained_spacing(stored, config.data)
            return TrainingImage(case, image, EmptyReference(image), statistics or read_statistics(image, config))
        except DataError:
            stored.close()
            raise


class EmptyReference(ImageSource):
    """Reference that is 0 at every pixel."""

    mask_format = "tiff"

    def __init__(self, image: ImageSource) -> None:
        super().__init__(image.geometry, 1, np.dtype(np.uint8))

    def _read(self, region: Region, _: int) -> NDArray[np.uint8]:
        return np.zeros((1, *(axis.stop - axis.start for axis in region)), np.uint8)


class UnlabelledPatches(Dataset[Tensor]):
    """Normalised patches (C, *patch) from random places of the images; patch i depends on `run.seed` and i alone.

    Every image is read once at the start, for its statistics, so that an unusable one is reported at once.

    Args:
        cases: each is equally likely to give a patch.
        config: config of the run; up to `trainer.cache_mib` of images stay open.

    Raises:
        DataError: an image that `open_unlabelled` refuses.
    """

    def __init__(self, cases: Sequence[Case], config: Config) -> None:
        self.config = config
        statistics = {}
        for number, case in enumerate(cases):
            image = open_unlabelled(case, config)
            statistics[number] = image.statistics
            image.close()
        self.images = TrainingImageCache(cases, config, config.trainer.cache_mib * 2**20, statistics, open_unlabelled)

    def __getitem__(self, index: int) -> Tensor:
        """Return a patch, mirrored at the border where the image is smaller than the patch."""
        random = np.random.default_rng((self.config.run.seed, index))
        image = self.images[int(random.integers(len(self.images.cases)))]
        sizes = self.config.patch_size
        last_starts = [max(0, size - patch) for size, patch in zip(image.image.shape, sizes, strict=True)]
        starts = random.integers(last_starts, endpoint=True).tolist()
        region = tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
        return torch.from_numpy(image.statistics.normalise(read_mirrored(image.image, region)))
