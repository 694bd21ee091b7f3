"""Detections: peaks of the smoothed probability, their radius and threshold, ties, and no influence of the bands."""

import numpy as np
import pytest
from array_source import ArraySource
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from test_find_objects import ball, facts

from configs.inference_section import InferenceSection
from inference.objects import peaks as peaks_module
from inference.objects.arrays import InMemory
from inference.objects.find import find_objects
from inference.objects.image_object import ImageObject


def detected(
    probability: np.ndarray | list[np.ndarray],
    radius_um: float = 3,
    *,
    threshold: float = 0.5,
    spacing_um: tuple[float, ...] | None = None,
    band_rows: int | None = None,
) -> list[ImageObject]:
    """Return the peaks of the second class, whose probability (*S) it is, or of classes (K, *S) if it is a list."""
    shares = (
        np.stack([np.zeros_like(probability), probability]) if isinstance(probability, np.ndarray) else np.stack(probability)
    )
    shape = shares.shape[1:]
    image = ArraySource(np.zeros((1, *shape), np.uint8), spacing_um or (1.0,) * len(shape))
    section = InferenceSection(objects="peaks", peak_radius_um=radius_um, peak_threshold=threshold)
    mask = InMemory(np.zeros(shape, np.uint8))
    return list(find_objects(mask, section, image=image, probabilities=InMemory(shares, axes=1), band_rows=band_rows))


def balls(shape: tuple[int, ...], centres: list[tuple[int, ...]], radius: float = 3) -> np.ndarray:
    return sum(ball(shape, centre, radius) for centre in centres).astype(np.float32)


@pytest.mark.parametrize(("shape", "centres"), [((30, 40), [(8, 9), (20, 30)]), ((14, 20, 24), [(5, 6, 7), (8, 14, 17)])])
def test_peaks_are_the_centres_of_balls(shape: tuple[int, ...], centres: list[tuple[int, ...]]) -> None:
    found = detected(balls(shape, centres))
    assert [each.centroid_px for each in found] == centres
    for number, each in enumerate(found, 1):
        assert (each.number, each.label, each.area_px, each.is_point) == (number, 1, 1, True)
        assert each.pixels.all()
        assert each.mean_probability == 1
        assert 0.9 < each.score < 1
        assert each.channel_means == (0,)


def test_the_highest_within_the_radius_remains() -> None:
    probability = np.zeros((9, 40), np.float32)
    probability[4, [5, 13, 21]] = [1, 0.9, 0.8]
    columns = {radius: [each.centroid_px[1] for each in detected(probability, radius, threshold=0.001)] for radius in (7, 9)}
    assert columns == {7: [5, 13, 21], 9: [5, 21]}  # what isn't there any more suppresses nothing


def test_the_first_of_equal_peaks_remains() -> None:
    probability = np.zeros((9, 30), np.float32)
    probability[4, [8, 16]] = 1
    assert [each.centroid_px for each in detected(probability, 8, threshold=0.001)] == [(4, 8)]


def test_the_score_is_the_smoothed_probability_and_reaches_the_threshold() -> None:
    probability = balls((25, 25), [(12, 12)], radius=2)
    expected = ndimage.gaussian_filter(probability, 1.5, mode="nearest", truncate=3)[12, 12]
    (found,) = detected(probability, 4.5, threshold=float(expected))
    assert found.score == pytest.approx(expected)
    assert detected(probability, 4.5, threshold=float(expected) + 1e-3) == []


def test_the_radius_is_in_micrometres_along_each_axis() -> None:
    probability = np.zeros((40, 40), np.float32)
    probability[[10, 16], 20] = 1
    probability[30, [10, 19]] = 1
    found = detected(probability, 5, threshold=0.001, spacing_um=(1.0, 0.5))
    assert [each.centroid_px for each in found] == [(10, 20), (16, 20), (30, 10)]


def test_classes_are_detected_apart() -> None:
    first, second = balls((20, 20), [(9, 9)]), balls((20, 20), [(9, 11)])
    found = detected([np.zeros_like(first), first, second])
    assert [(each.label, each.centroid_px) for each in found] == [(1, (9, 9)), (2, (9, 11))]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**16), st.sampled_from([(60, 40), (20, 12, 14)]), st.sampled_from([1, 3, 7, 64]), st.booleans())
def test_peaks_do_not_depend_on_the_bands(seed: int, shape: tuple[int, ...], band_rows: int, is_coarse: bool) -> None:
    random = np.random.default_rng(seed)
    probability = ndimage.gaussian_filter(random.random(shape, np.float32), 1)
    probability = (probability - probability.min()) / np.ptp(probability)
    probability = np.round(probability * (3 if is_coarse else 255)) / (3 if is_coarse else 255)  # plateaus and ties
    options = {"radius_um": 2.5, "threshold": 0.3, "spacing_um": (1.0, 0.7, 0.8)[: len(shape)]}
    whole = detected(probability, **options, band_rows=shape[0])
    assert [facts(each) for each in detected(probability, **options, band_rows=band_rows)] == [facts(each) for each in whole]
    centres = np.array([each.centroid_px for each in whole]) * options["spacing_um"]
    distances = np.linalg.norm(centres[:, None] - centres, axis=-1)[~np.eye(len(whole), dtype=bool)]
    assert (distances > 2.5).all()


def test_peaks_do_not_depend_on_the_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    probability = np.random.default_rng(0).random((50, 90), np.float32)
    whole = [facts(each) for each in detected(probability, threshold=0.4)]
    assert len(whole) > 20
    monkeypatch.setattr(peaks_module, "TILE_WIDTH", 16)
    assert [facts(each) for each in detected(probability, threshold=0.4)] == whole


def test_peaks_of_stored_bytes_and_of_nothing() -> None:
    probability = balls((30, 40), [(8, 9)])
    assert [each.centroid_px for each in detected((probability * 255).astype(np.uint8))] == [(8, 9)]
    assert detected(np.zeros((10, 10), np.float32)) == []


def test_peaks_need_a_spacing_and_probabilities() -> None:
    mask, section = InMemory(np.zeros((4, 4), np.uint8)), InferenceSection(objects="peaks", peak_radius_um=3)
    image = ArraySource(np.zeros((1, 4, 4), np.uint8))
    for options in ({"image": image, "probabilities": InMemory(np.zeros((2, 4, 4)), axes=1)}, {"image": image}):
        with pytest.raises(ValueError, match="peaks are found in probabilities"):
            list(find_objects(mask, section, **options))
