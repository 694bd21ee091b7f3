"""Find the objects of a finished mask, and measure them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import regionprops

from configs.sections import InferenceSection
from imaging.source import ImageSource
from inference.objects.image_object import ImageObject, Readable
from inference.objects.split import objects_of


def find_objects(
    mask: Readable,
    section: InferenceSection,
    *,
    image: ImageSource | None = None,
    probabilities: Readable | None = None,
) -> Iterator[ImageObject]:
    """Yield the objects of a mask, measured, and numbered from 1.

    An object is a set of pixels of one label above 0 that are connected by their sides (faces in 3D). Objects are found band
    by band, and their order and numbers don't depend on the bands.

    Args:
        mask: labels (*S), 0 is background; read once from the first row to the last.
        section: `objects` is the way in which they are found, see `InferenceSection`.
        image: image of the mask, whose channels are measured; None: they are not.
        probabilities: (K, *S), float from 0 to 1, or uint8 from 0 to 255; measured in each object, None: they are not.
    """
    whole = tuple(slice(0, size) for size in mask.shape)
    labels = mask.read(whole)
    numbers = objects_of(labels, section)
    pixels = None if image is None else np.moveaxis(image.read(whole), 0, -1)
    shares = None if probabilities is None else as_shares(probabilities.read(whole))
    for properties in regionprops(numbers, intensity_image=pixels):
        is_flat = labels.ndim == 2
        label = int(labels[tuple(properties.coords[0])])
        yield ImageObject(
            properties.label,
            label,
            runs_of(numbers == properties.label),
            properties.slice,
            int(properties.area),
            tuple(float(value) for value in properties.centroid),
            float(properties.equivalent_diameter_area),
            float(properties.eccentricity) if is_flat else None,
            float(properties.solidity) if is_flat else None,
            () if pixels is None else tuple(float(value) for value in properties.intensity_mean),
            () if pixels is None else tuple(float(value) for value in properties.intensity_std),
            None if shares is None else float(shares[(label, *properties.coords.T)].mean(dtype=np.float64)),
        )


def as_shares(probabilities: NDArray[Any]) -> NDArray[Any]:
    """Return probabilities from 0 to 1, whether they are stored as such or as uint8 from 0 to 255."""
    return probabilities / np.float32(255) if probabilities.dtype == np.uint8 else probabilities


def runs_of(pixels: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the runs of a mask, see `ImageObject`."""
    steps = np.diff(pixels, axis=-1, prepend=False, append=False)
    starts, stops = np.argwhere(steps)[::2], np.argwhere(steps)[1::2]
    return np.concatenate([starts, stops[:, -1:]], axis=1).astype(np.int32)


def number_objects(mask: NDArray[np.uint8], section: InferenceSection) -> NDArray[np.uint32]:
    """Return the numbers (*S) of the objects of a mask (*S) in memory; 0 is the background."""
    return objects_of(mask, section).astype(np.uint32)
