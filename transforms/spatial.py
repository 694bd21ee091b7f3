"""Random rotations, scalings, elastic deformations and flips; image and reference move by one field.

Displacements are given in pixels. Both libraries draw uniformly from -1 .. 1, smooth that by a Gaussian of `sigma` and
multiply. The drawn values have a deviation of 1 / sqrt(3), of which the smoothing leaves
(2 * sqrt(pi) * sigma) ** (-dimensions / 2) far from the patch's border, so the factor is the inverse of both.
"""

import math
from typing import Any

import albumentations
import cv2
from monai import transforms as monai_transforms

from configs.schema import AugmentSection

IMAGE, REFERENCE = "image", "mask"  # Albumentations' names; MONAI takes any


def spatial_2d(section: AugmentSection) -> list[Any]:
    """Albumentations transforms of image (H, W, C) and mask (H, W)."""
    border = cv2.BORDER_REFLECT_101
    sigma = section.elastic_smoothness_px
    transforms: list[Any] = [
        albumentations.Affine(
            scale=(1 - section.scaling, 1 + section.scaling),
            rotate=(-section.rotation_degrees, section.rotation_degrees),
            border_mode=border,
            p=section.probability,
        ),
        albumentations.ElasticTransform(
            alpha=section.elastic_px * _noise_scale(sigma, 2),
            sigma=sigma,
            noise_distribution="uniform",
            border_mode=border,
            p=section.probability,
        ),
    ]
    flip = 0.5 * float(section.flips and section.probability > 0)
    return [*transforms, albumentations.HorizontalFlip(p=flip), albumentations.VerticalFlip(p=flip)]


def spatial_3d(section: AugmentSection) -> list[Any]:
    """MONAI transforms of a dictionary with image (C, D, H, W) and mask (1, D, H, W)."""
    keys = (IMAGE, REFERENCE)
    sigma = section.elastic_smoothness_px
    magnitude = section.elastic_px * _noise_scale(sigma, 3)
    moved = monai_transforms.Rand3DElasticd(
        keys,
        sigma_range=(sigma, sigma),
        magnitude_range=(magnitude, magnitude),
        prob=section.probability,
        rotate_range=[math.radians(section.rotation_degrees)] * 3,
        scale_range=[section.scaling] * 3,
        mode=("bilinear", "nearest"),
        padding_mode="reflection",
    )
    flip = 0.5 * float(section.flips and section.probability > 0)
    return [moved, *(monai_transforms.RandFlipd(keys, prob=flip, spatial_axis=axis) for axis in range(3))]


def _noise_scale(sigma: float, dimensions: int) -> float:
    return float(math.sqrt(3) * (2 * math.sqrt(math.pi) * sigma) ** (dimensions / 2))
