"""Styles for augmentation, read from a folder of the user's unlabelled images."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from datasets.cases import Case, prefix_errors
from imaging.errors import DataError
from imaging.open import open_image
from inference.compatibility import at_trained_spacing, check_suitable
from inference.tiling.grid import read_mirrored
from transforms import limits
from transforms.restyle import StyleBank

PATCHES_PER_STYLE = 8  # at random places of an image; its style is their mean


def read_styles(config: Config) -> StyleBank | None:
    """Read the styles of the images in `augment.style_bank` from patches of the training size; None without restyling.

    Raises:
        DataError: `no_styles`, or an image can't be read or doesn't fit the config.
    """
    folder = config.augment.style_bank
    if config.augment.restyle == 0 or folder is None:
        return None
    paths = sorted(path for path in folder.glob("[!.]*") if path.is_file())
    if not paths:
        raise DataError("no_styles", "augment.style_bank has no images; set it to a folder with unlabelled images")
    random = np.random.default_rng(config.run.seed)
    return StyleBank([_read_patches(path, config, random) for path in paths])


def _read_patches(path: Path, config: Config, random: np.random.Generator) -> NDArray[np.float32]:
    """Read random patches (n, C, *patch) of an image, scaled to about 0 .. 1."""
    with prefix_errors(Case(path.name, (path,))), open_image(path) as stored:
        check_suitable(stored, config)
        image = at_trained_spacing(stored, config.data)
        image_limits = limits.fit(image.dtype, image.channels, image.blocks())
        patches = []
        for _ in range(PATCHES_PER_STYLE):
            last_starts = [max(0, size - patch) for size, patch in zip(image.shape, config.patch_size, strict=True)]
            starts = random.integers(last_starts, endpoint=True).tolist()
            region = tuple(slice(start, start + size) for start, size in zip(starts, config.patch_size, strict=True))
            patches.append(image_limits.unit(read_mirrored(image, region).astype(np.float32)))
    return np.stack(patches)
