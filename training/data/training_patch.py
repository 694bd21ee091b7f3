"""What a patch is on its way into the network."""

from typing import NamedTuple

from torch import Tensor


class TrainingPatch(NamedTuple):
    """A patch, or with a leading B a batch of them.

    Args:
        image: (C, *patch), float32.
        reference: what the loss compares with: labels (*patch), int64, and () for a window; as `Targets` makes it.
        weights: (*patch), float32, added to the weights of the pixels' classes; (0,) where nothing is.
        case: (), int64, the number of the training case.
        label: (), int64, of the whole image; -1 where it has none.
    """

    image: Tensor
    reference: Tensor
    weights: Tensor
    case: Tensor
    label: Tensor
