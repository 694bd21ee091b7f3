"""A folder of images without references -> patches of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from configs.schema import Config
from datasets.cases import Case, open_case_image, prefix_errors
from imaging.errors import DataError
from imaging.open import is_image_folder
from imaging.source import ImageSource, Region
from inference.compatibility import at_trained_spacing, check_suitable
from inference.tiling.grid import read_mirrored
from training.data.open_cases import OpenCases, Statistics, TrainingImage, read_statistics


def unlabelled_cases(folder: Path) -> tuple[Case, ...]:
    """What lies directly in the folder, a case an image, in the order of their names.

    Raises:
        DataError: `no_images`.
    """
    paths = sorted(path for path in folder.glob("[!.]*") if path.is_file() or is_image_folder(path))
    if not paths:
        raise DataError("no_images", f"{folder} holds no image; name a folder with unlabelled images in pretrain.images")
    return tuple(Case(path.name, (path,)) for path in paths)


def open_unlabelled(case: Case, config: Config, statistics: Statistics | None = None) -> TrainingImage:
    """An image at the trained spacing, which nothing is said about.

    Raises:
        DataError: it can't be read, or doesn't fit the config.
    """
    with prefix_errors(case):
        stored = open_case_image(case)
        try:
            check_suitable(stored, config)
            image = at_trained_spacing(stored, config.data)
            return TrainingImage(case, image, Nothing(image), statistics or read_statistics(image, config))
        except DataError:
            stored.close()
            raise


class Nothing(ImageSource):
    """Stands where a reference would be: 0 at every pixel."""

    mask_format = "tiff"

    def __init__(self, image: ImageSource) -> None:
        super().__init__(image.geometry, 1, np.dtype(np.uint8))

    def _read(self, region: Region, _: int) -> NDArray[np.uint8]:
        return np.zeros((1, *(axis.stop - axis.start for axis in region)), np.uint8)


class UnlabelledPatches(Dataset[Tensor]):
    """Patches (C, *patch), normalised, from anywhere in the images; patch i depends on `run.seed` and i alone.

    Every image is read once at the beginning, for its statistics, so that one that can't be used is told at once.

    Args:
        cases: each is as likely as the next to give a patch.
        config: the run's; `trainer.cache_mib` of the images stay open.

    Raises:
        DataError: an image that `open_unlabelled` refuses.
    """

    def __init__(self, cases: Sequence[Case], config: Config) -> None:
        self.config = config
        statistics = {}
        for number, case in enumerate(cases):
            opened = open_unlabelled(case, config)
            statistics[number] = opened.statistics
            opened.close()
        self.opened = OpenCases(cases, config, config.trainer.cache_mib * 2**20, statistics, open_unlabelled)

    def __getitem__(self, index: int) -> Tensor:
        """Mirrored beyond the border where the image is smaller than a patch."""
        random = np.random.default_rng((self.config.run.seed, index))
        opened = self.opened[int(random.integers(len(self.opened.cases)))]
        sizes = self.config.patch_size
        room = [max(0, size - patch) for size, patch in zip(opened.image.shape, sizes, strict=True)]
        starts = random.integers(room, endpoint=True).tolist()
        region = tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
        return torch.from_numpy(opened.statistics.normalise(read_mirrored(opened.image, region)))
