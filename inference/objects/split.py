"""Numbered objects of a mask: connected components, or components that a watershed splits at narrow places."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as number_pieces
from skimage.morphology import local_maxima
from skimage.segmentation import watershed

from configs.sections import InferenceSection

Numbers = NDArray[np.int32]


def objects_of(mask: NDArray[Any], section: InferenceSection) -> Numbers:
    """Return the objects of a mask (*S), numbered 1, 2 .. in the order of their first pixels; 0 is the background.

    Pixels of an object share a side (a face in 3D) and a label, so that touching classes are separate objects. Objects with
    fewer than `smallest_object_px` pixels are dropped.

    Args:
        mask: labels (*S), 0 is background.
        section: `objects` is "components" or "watershed", see `split`, which takes `object_sigma_px`.
    """
    pieces = split(mask, section.object_sigma_px) if section.objects == "watershed" else mask
    numbers = number_pieces(pieces, connectivity=1)
    sizes = np.bincount(numbers.reshape(-1))
    is_large = sizes >= section.smallest_object_px
    is_large[0] = False
    renumbered = np.where(is_large, np.cumsum(is_large), 0).astype(np.int32)
    objects: Numbers = renumbered[numbers]
    return objects


def split(mask: NDArray[Any], sigma_px: float) -> Numbers:
    """Return the components of each label (*S), divided between the peaks of the distance to their border.

    The distance is smoothed by a Gaussian of `sigma_px`, so that ragged borders have no peaks. A larger one gives fewer pieces.
    Objects are assumed to continue beyond the image's border. The numbers of the pieces may have gaps.

    Source: the watershed of Beucher and Lantuejoul 1979.
    """
    pieces = np.zeros(mask.shape, np.int32)
    for label in np.unique(mask[mask > 0]):
        inside = mask == label
        pieces[inside] = _split_one(inside, sigma_px)[inside] + pieces.max()
    return pieces


def _split_one(inside: NDArray[np.bool_], sigma_px: float) -> Numbers:
    """Return the pieces of one label, numbered from 1, with 0 outside of it."""
    if inside.all():
        return np.ones(inside.shape, np.int32)  # without a border there is no distance to it
    distance = ndimage.distance_transform_edt(inside).astype(np.float32)
    smooth = ndimage.gaussian_filter(distance, sigma_px, mode="nearest")
    markers = number_pieces(local_maxima(smooth) & inside)
    pieces: Numbers = watershed(-smooth, markers, mask=inside)
    unmarked = inside & (pieces == 0)  # pieces too small for a peak of their own
    pieces[unmarked] = number_pieces(unmarked, connectivity=1)[unmarked] + pieces.max()
    return pieces
