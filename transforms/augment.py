"""Augmentation: all random transforms of training behind one interface, for 2D images and volumes."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.sections import AugmentSection
from transforms import intensity, mri, stain
from transforms.limits import Limits
from transforms.remap import random_remap
from transforms.restyle import StyleBank, random_style
from transforms.spatial import Patch, draw_movement, move
from transforms.warp import Floats

Step = Callable[[Floats, np.random.Generator], Floats]  # from an image (C, *S) with values of about 0 to 1 to another


class Augment:
    """Random transform of patches. Equal states of the generators give equal bytes.

    All spatial transforms are composed into one field of coordinates, so that the patch is interpolated once. Intensity
    transforms are relative to `limits`, so that the same settings fit every kind of image. The contrast curve and the style
    belong to the whole image and are drawn from `image_random`: patches with equal generators get the same ones.

    Args:
        section: transforms, their strengths and their probability.
        dimensions: 2 or 3.
        styles: styles for restyling; required if `section.restyle` is above 0.
        spacing_um: spacing of the patches' pixels in S order; None is the same along each axis.
    """

    def __init__(
        self,
        section: AugmentSection,
        dimensions: int,
        styles: StyleBank | None = None,
        spacing_um: Sequence[float] | None = None,
    ) -> None:
        self.section = section
        self.dimensions = dimensions
        self.spacing_um = spacing_um
        self.image_steps: list[Step] = []  # their parameters are drawn once per image
        if section.restyle > 0 and styles is not None:
            self.image_steps.append(partial(random_style, styles=styles, alpha=section.restyle))
        if section.remap > 0:
            background, inversion = section.remap_background, section.remap_inversion
            remap = partial(random_remap, share=section.remap, background=background, inversion=inversion)
            self.image_steps.append(remap)
        self.steps = _steps(section)

    def __call__(
        self,
        image: Floats,
        reference: NDArray[Any],
        random: np.random.Generator,
        *,
        limits: Limits | None = None,
        image_random: np.random.Generator | None = None,
    ) -> Patch:
        """Return the transformed image and reference.

        Args:
            image: (C, *S), float32.
            reference: (*S) or (channels, *S), labels of any integer type.
            random: generator of the parameters of this patch.
            limits: limits of the whole image, in the units of `image`; None takes the patch's own minimum and maximum.
            image_random: generator of the parameters of the whole image; None is `random`.
        """
        moved = move(draw_movement(self.section, self.dimensions, random, self.spacing_um), image, reference)
        if limits is None:
            flat = image.reshape(len(image), -1)  # (C, values)
            limits = Limits(flat.min(axis=1), flat.max(axis=1))
        image_steps = self._sample(self.image_steps, image_random or random)
        steps = self._sample(self.steps, random)
        if not image_steps and not steps:
            return moved
        unit = limits.unit(moved.image)
        for step in image_steps:
            unit = step(unit, image_random or random)
        for step in steps:
            unit = step(unit, random)
        return moved._replace(image=limits.back(unit))

    def _sample(self, steps: list[Step], random: np.random.Generator) -> list[Step]:
        """Return each step with the probability of the section."""
        return [step for step in steps if random.random() < self.section.probability]


def make_augment(
    section: AugmentSection, dimensions: int, styles: StyleBank | None = None, spacing_um: Sequence[float] | None = None
) -> Augment:
    """Return the augmentation for images of so many dimensions.

    Raises:
        ValueError: `section.restyle` is above 0 and `styles` is None.
    """
    if section.restyle > 0 and styles is None:
        raise ValueError("augment.restyle needs styles; make a StyleBank of the user's images")
    return Augment(section, dimensions, styles, spacing_um)


def _steps(section: AugmentSection) -> list[Step]:
    """Return the steps whose parameters are drawn for each patch, in the order of image formation: tissue to detector."""
    candidates = (
        (stain.random_stain, section.stain),
        (mri.random_bias_field, section.bias_field),
        (mri.random_ghosting, section.ghosting),
        (intensity.random_blur, section.blur_px),
        (intensity.random_low_resolution, section.low_resolution),
        (intensity.random_gamma, section.gamma),
        (intensity.random_brightness, section.brightness),
        (intensity.random_contrast, section.contrast),
        (intensity.random_noise, section.noise),
    )
    return [partial(step, strength=strength) for step, strength in candidates if strength > 0]
