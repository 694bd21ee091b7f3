"""The random transforms of training behind one interface: Albumentations in 2D, MONAI in 3D."""

from abc import ABC, abstractmethod
from typing import Any

import albumentations
import numpy as np
from monai import transforms as monai_transforms
from numpy.typing import NDArray

from configs.schema import AugmentSection
from transforms.intensity import intensity_2d, intensity_3d
from transforms.spatial import IMAGE, REFERENCE, spatial_2d, spatial_3d

Image = NDArray[np.float32]
Reference = NDArray[np.uint8]


class Augment(ABC):
    """A random transform of a patch; equal seeds give equal patches.

    Intensities are changed in shares of the patch's own range, so the same settings serve every kind of image.
    A reference moves by the image's field and is sampled by nearest neighbour: no label is made up.
    """

    def __call__(self, image: Image, reference: Reference, seed: int) -> tuple[Image, Reference]:
        """Image (C, *S) and reference (*S) of the same shapes, transformed."""
        low, high = image.min(), image.max()
        if low == high:
            return image, reference
        moved, moved_reference = self._draw((image - low) / (high - low), reference, seed)
        return np.ascontiguousarray(moved * (high - low) + low, np.float32), np.ascontiguousarray(moved_reference)

    @abstractmethod
    def _draw(self, image: Image, reference: Reference, seed: int) -> tuple[Image, Reference]:
        """Both, transformed; the image's values lie in 0 .. 1."""


class Augment2D(Augment):
    """Albumentations."""

    def __init__(self, section: AugmentSection) -> None:
        self.transform = albumentations.Compose([*spatial_2d(section), *intensity_2d(section)])

    def _draw(self, image: Image, reference: Reference, seed: int) -> tuple[Image, Reference]:
        self.transform.set_random_seed(seed)
        result = self.transform(image=np.moveaxis(image, 0, -1), mask=reference)  # (H, W, C)
        moved = result[IMAGE].reshape(*reference.shape, len(image))
        return np.moveaxis(moved, -1, 0), result[REFERENCE]


class Augment3D(Augment):
    """MONAI."""

    def __init__(self, section: AugmentSection) -> None:
        self.transform = monai_transforms.Compose([*spatial_3d(section), *intensity_3d(section)])

    def _draw(self, image: Image, reference: Reference, seed: int) -> tuple[Image, Reference]:
        self.transform.set_random_state(seed)
        result: dict[str, Any] = self.transform({IMAGE: image, REFERENCE: reference[None].astype(np.float32)})
        return result[IMAGE].numpy(), result[REFERENCE].numpy()[0].astype(np.uint8)


def make_augment(section: AugmentSection, dimensions: int) -> Augment:
    """The augmentation for images of that many dimensions."""
    return Augment2D(section) if dimensions == 2 else Augment3D(section)
