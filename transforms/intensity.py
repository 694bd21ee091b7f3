"""Random brightness, contrast, gamma and noise, on images whose values lie in 0 .. 1."""

from typing import Any

import albumentations
from monai import transforms as monai_transforms

from configs.schema import AugmentSection
from transforms.spatial import IMAGE


def intensity_2d(section: AugmentSection) -> list[Any]:
    """Albumentations transforms of an image (H, W, C)."""
    low, high = 100 * (1 - section.gamma), 100 * (1 + section.gamma)
    return [
        albumentations.RandomBrightnessContrast(section.brightness, section.contrast, p=section.probability),
        albumentations.RandomGamma((low, high), p=section.probability),
        albumentations.GaussNoise((0, section.noise), p=section.probability),
    ]


def intensity_3d(section: AugmentSection) -> list[Any]:
    """MONAI transforms of a dictionary with an image (C, D, H, W)."""
    keys, probability = (IMAGE,), section.probability
    return [
        monai_transforms.RandShiftIntensityd(keys, offsets=section.brightness, prob=probability),
        monai_transforms.RandScaleIntensityFixedMeand(keys, factors=section.contrast, preserve_range=False, prob=probability),
        monai_transforms.RandAdjustContrastd(keys, gamma=(1 - section.gamma, 1 + section.gamma), prob=probability),
        monai_transforms.RandGaussianNoised(keys, std=section.noise, prob=probability),
    ]
