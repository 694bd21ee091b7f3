"""The random transforms of training behind one interface, the same for pictures and volumes."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.sections import AugmentSection
from transforms import intensity, mri, stain
from transforms.limits import Limits
from transforms.remap import random_remap
from transforms.restyle import StyleBank, restyle
from transforms.spatial import Patch, draw_movement, move
from transforms.warp import Floats

Step = Callable[[Floats, np.random.Generator], Floats]  # image (C, *S) in 0 .. 1, about -> the same


class Augment:
    """A random transform of patches; equal generators give equal bytes.

    Everything spatial is one field of coordinates, looked up once. Intensities are changed in shares of `limits`, so the
    same settings serve every kind of image. What belongs to a whole image, its contrast curve and its style, is drawn
    from `image_random`: patches that come with equal ones get the same.

    Args:
        section: which transforms, how strong and how often.
        dimensions: of the patches, 2 or 3.
        styles: to restyle by; needed where `section.restyle` is above 0.
        spacing_um: between the patches' pixels in S order; None: the same along each axis.
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
        self.image_steps = _image_steps(section, styles)
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
        """Image (C, *S) and reference (*S) or (channels, *S), transformed.

        Args:
            image: float32.
            reference: labels of any integer type.
            random: for what is drawn for the patch alone.
            limits: of the whole image, in the units of `image`; None: the patch's own lowest and highest values.
            image_random: for what is drawn for the whole image; None: `random`.
        """
        moved = move(draw_movement(self.section, self.dimensions, random, self.spacing_um), image, reference)
        limits = limits or _own_limits(image)
        image_steps, steps = self._drawn(self.image_steps, image_random or random), self._drawn(self.steps, random)
        if not image_steps and not steps:
            return moved
        unit = limits.unit(moved.image)
        for step in image_steps:
            unit = step(unit, image_random or random)
        for step in steps:
            unit = step(unit, random)
        return moved._replace(image=limits.back(unit))

    def _drawn(self, steps: list[Step], random: np.random.Generator) -> list[Step]:
        return [step for step in steps if random.random() < self.section.probability]


def make_augment(
    section: AugmentSection, dimensions: int, styles: StyleBank | None = None, spacing_um: Sequence[float] | None = None
) -> Augment:
    """The augmentation for images of that many dimensions.

    Raises:
        ValueError: `section.restyle` is above 0 and there are no styles.
    """
    if section.restyle > 0 and styles is None:
        raise ValueError("augment.restyle needs styles; make a StyleBank of the user's images")
    return Augment(section, dimensions, styles, spacing_um)


def _image_steps(section: AugmentSection, styles: StyleBank | None) -> list[Step]:
    """What is drawn once for a whole image."""
    steps: list[Step] = []
    if section.restyle > 0 and styles is not None:
        steps.append(partial(_random_style, styles=styles, alpha=section.restyle))
    if section.remap > 0:
        background, inversion = section.remap_background, section.remap_inversion
        steps.append(partial(random_remap, share=section.remap, background=background, inversion=inversion))
    return steps


def _steps(section: AugmentSection) -> list[Step]:
    """What is drawn for each patch, in the order of an image's way: the tissue, the magnet, optics, the detector."""
    offered = (
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
    return [partial(step, strength=strength) for step, strength in offered if strength > 0]


def _random_style(image: Floats, random: np.random.Generator, *, styles: StyleBank, alpha: float) -> Floats:
    return restyle(image, styles.draw(random), alpha)


def _own_limits(image: Floats) -> Limits:
    flat = image.reshape(len(image), -1)
    return Limits(flat.min(axis=1), flat.max(axis=1))
