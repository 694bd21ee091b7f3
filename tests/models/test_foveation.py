"""Foveation: no blur at the centre, the full blur at the corners, and unchanged mean brightness."""

import pytest
import torch
from torch import Tensor

from configs.network_sections import SlidingWindowSection
from models.architectures import count_parameters
from models.foveation import Foveation
from models.sliding_window import SlidingWindow


@pytest.mark.parametrize(("dimensions", "window"), [(2, 35), (2, 36), (3, 12)])
def test_a_constant_image_stays_as_it_is(dimensions: int, window: int) -> None:
    windows = torch.full((2, 3, *(window,) * dimensions), 7.0)
    torch.testing.assert_close(Foveation(dimensions, window, 5.0)(windows), windows, rtol=1e-5, atol=0)


@pytest.mark.parametrize("window", [35, 36])
def test_the_centre_stays_sharp(window: int) -> None:
    windows = torch.randn(1, 1, window, window)
    foveated = Foveation(2, window, 5.0)(windows)
    place = (0, 0, window // 2, window // 2)
    assert foveated[place] == windows[place]
    assert (foveated != windows).sum() == window**2 - 1


def test_the_deviation_grows_with_the_distance_from_the_centre() -> None:
    """Check the variance, the blur of x^2 minus the square of the blur of x, where the border is out of reach."""
    window, corner_px = 151, 8.0
    squared = variances(Foveation(2, window, corner_px), window)
    for distance in (15, 25, 35, 45, 55):
        expected = corner_px * distance / (75 * 2**0.5)
        assert squared[75, 75 + distance].sqrt() == pytest.approx(expected, rel=0.02)
        assert squared[75 - distance, 75].sqrt() == pytest.approx(expected, rel=0.02)


def variances(foveation: Foveation, window: int) -> Tensor:
    """Return the standard deviation of the blur along the last axis at each pixel, (window, window)."""
    columns = torch.arange(window, dtype=torch.float32).expand(window, window)[None, None] - window // 2
    mean, square = (foveation(values)[0, 0] for values in (columns, columns**2))
    return square - mean**2


def test_an_impulse_at_the_corner_is_spread_as_the_corner_s_deviation_says() -> None:
    """Check a window of 3 with a deviation of 1 at the corner, whose weights are exp(0), exp(-1/2), exp(-2)."""
    windows = torch.zeros(1, 1, 3, 3)
    windows[0, 0, 0, 0] = 1
    weight = 1 / (1 + torch.tensor([-0.5, -2.0]).exp().sum())
    torch.testing.assert_close(Foveation(2, 3, 1.0)(windows)[0, 0, 0, 0], weight**2)


def test_it_has_no_weights_and_leaves_bundles_as_they_are() -> None:
    plain, foveated = (
        SlidingWindow(2, 3, 2, SlidingWindowSection(name="sliding_window", foveation_px=corner_px)) for corner_px in (0.0, 4.0)
    )
    assert count_parameters(plain) == count_parameters(foveated)
    assert list(plain.state_dict()) == list(foveated.state_dict())
