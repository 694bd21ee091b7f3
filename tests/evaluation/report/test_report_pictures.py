"""Pictures against small arrays, and the selection of the cases that are shown."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import nan
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs.sections import ClassSection
from datasets.cases import Case, read_cases
from evaluation import picture_regions
from evaluation.comparison.panels import draw_case_pictures, select_cases
from evaluation.comparison.result import CasePicture
from evaluation.metrics.registry import METRICS
from evaluation.plots import draw_panel
from evaluation.rendering import (
    NEITHER,
    ONLY_FIRST,
    ONLY_SECOND,
    overlay,
    overlay_disagreement,
    overlay_wrong,
    to_picture,
    to_png,
)
from evaluation.scoring.array_source import ArraySource
from imaging.source import ImageSource
from tests.phantom import write_slide_dataset, write_volume_dataset

LABELS = ("U-Net", "sliding window")
CLASSES = [ClassSection(name="background", colour="#000000"), ClassSection(name="nucleus", colour="#ff0000")]


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_colour_of_8_bits_is_shown_as_it_is() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    assert to_picture(image).tolist() == [[[0, 4, 8], [1, 5, 9]], [[2, 6, 10], [3, 7, 11]]]


def test_other_images_are_stretched_grey() -> None:
    picture = to_picture(np.linspace(-500, 1500, 100, dtype=np.float32).reshape(1, 10, 10))
    assert picture.shape == (10, 10, 3)
    assert (picture.min(), picture.max()) == (0, 255)
    assert (picture[..., 0] == picture[..., 2]).all()
    assert (to_picture(np.full((1, 2, 2), 7.0)) == 0).all()


def test_masks_are_filled_and_outlined() -> None:
    mask = np.zeros((5, 7), np.uint8)
    mask[1:4, 1:4] = 1
    overlaid = overlay(np.full((5, 7, 3), 255, np.uint8), mask, ["#000000", "#ff0000"])
    assert tuple(overlaid[0, 0]) == (255, 255, 255)  # background stays clear
    assert tuple(overlaid[1, 1]) == (255, 0, 0)  # outline
    assert tuple(overlaid[2, 2]) == (255, 128, 128)  # fill


def test_disagreement_has_a_colour_for_each_kind_of_error() -> None:
    reference = np.array([[0, 1, 1, 1, 2]])
    first = np.array([[0, 1, 0, 0, 2]])
    second = np.array([[0, 0, 1, 2, 2]])
    overlaid = overlay_disagreement(np.full((1, 5, 3), 255, np.uint8), reference, first, second)[0].astype(int)
    expected = [(255, 255, 255), rgb(ONLY_FIRST), rgb(ONLY_SECOND), rgb(NEITHER), (255, 255, 255)]
    assert np.abs(overlaid - np.array(expected)).max() <= 26  # a tenth of the image shines through


def test_png_keeps_every_pixel() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    assert (decoded(to_png(picture)) == picture).all()


@pytest.mark.parametrize("aspect", [0.5, 1.0, 2.0])
def test_a_panel_has_four_pictures_side_by_side(aspect: float) -> None:
    image, mask = np.zeros((3, 40, 60), np.uint8), np.eye(40, 60, dtype=np.uint8)
    overlaid = decoded(draw_panel(image, mask, [mask, 1 - mask], ["U-Net", "$hostile_{"], ["#000000", "#ff0000"], aspect))
    height, width = overlaid.shape[:2]
    assert 3 < width * aspect / height < 6.5


def test_a_panel_needs_masks_on_the_image() -> None:
    with pytest.raises(ValueError, match=r"masks .* don't have the size of the image \(4, 4\)"):
        draw_panel(np.zeros((1, 4, 4)), np.zeros((4, 4)), [np.zeros((4, 5))], ["U-Net"], ["#000000"])


@pytest.mark.parametrize(
    ("scores", "shown"),
    [
        ([[], []], []),
        ([[0.5], [0.6]], [0]),
        ([[nan, nan], [0.5, 0.5]], [0, 1]),
        ([[nan] * 9, [0.5] * 9], [0, 1, 2, 3, 4, 5]),
        ([[0.3, 0.9, 0.5, nan, 0.6], [0.3, 0.9, 0.7, 0.1, 0.6]], [0, 2, 1, 4]),
        ([[0.1, 0.2, 0.95, 0.6, 0.5, 0.5, 0.5, 0.5], [0.1, 0.2, 0.95, 0.7, 0.7, 0.9, 0.8, 0.6]], [0, 1, 2, 5, 6, 4]),
    ],
)
def test_the_worst_the_best_and_the_most_disputed_are_chosen(scores: list[list[float]], shown: list[int]) -> None:
    assert [index for index, _ in select_cases(scores, METRICS["dice"], LABELS)] == shown


def test_the_reasons_name_the_better_method() -> None:
    scores = [[0.2, 0.5, 0.75, 0.875], [0.25, 0.5, 0.5, 1.0]]
    assert [why for _, why in select_cases(scores, METRICS["dice"], LABELS)] == [
        "among the worst: mean Dice of the methods 0.225; sliding window is better than U-Net by 0.05",
        "among the worst: mean Dice of the methods 0.5; all methods are equal",
        "the best: mean Dice of the methods 0.938; sliding window is better than U-Net by 0.125",
        "U-Net is better than sliding window by 0.25",
    ]


def test_the_worst_has_the_largest_distance() -> None:
    (first, why), *_ = select_cases([[5.0, 50.0, 7.0], [5.0, 40.0, 6.0]], METRICS["hd95"], LABELS)
    assert (first, why) == (1, "among the worst: mean HD95 of the methods 45; sliding window is better than U-Net by 10")


def draw(cases: Sequence[Case], *masks: np.ndarray, classes: Sequence[ClassSection] = CLASSES) -> tuple[CasePicture, ...]:
    """Draw the cases with the same mask of each method for every case."""
    labels = [*LABELS, "other tool", "fourth"][: len(masks)]

    @contextmanager
    def open_masks(case: Case) -> Iterator[list[ImageSource]]:
        yield [ArraySource(mask[None]) for mask in masks]

    scores = [[0.5] * len(cases)] * len(masks)
    return draw_case_pictures(cases, open_masks, scores, METRICS["dice"], classes=classes, labels=labels)


def test_large_pictures_are_cut_where_the_foreground_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_regions, "WINDOW_PX", 32)
    write_slide_dataset(tmp_path, cases=1, shape=(40, 70), splits=["test"])
    (case,) = read_cases(tmp_path)
    reference = np.zeros((40, 70), np.uint8)
    reference[35:, 50:] = 1
    assert case.reference is not None
    Image.fromarray(reference).save(case.reference)
    (picture,) = draw([case], *[np.zeros((40, 70), np.uint8)] * 2)
    assert picture.where == "rows 8 to 39 and columns 32 to 63 of 40 x 70"
    assert decoded(picture.tiles[1].png).shape == (256, 256, 3)


def test_volumes_show_the_slice_with_the_most_foreground_in_true_proportions(tmp_path: Path) -> None:
    write_volume_dataset(tmp_path, cases=1, shape=(8, 16, 16), spacing_um=(3000.0, 2000.0, 1000.0), splits=["test"])
    (case,) = read_cases(tmp_path)
    (picture,) = draw([case], *[np.zeros((8, 16, 16), np.uint8)] * 2, classes=[*CLASSES, CLASSES[1]])
    assert picture.where.endswith("of 8")
    height, width = decoded(picture.tiles[0].png).shape[:2]
    assert height == 2 * width


@pytest.mark.parametrize(
    ("methods", "titles"),
    [
        (2, ["disagreement"]),
        (3, ["U-Net against sliding window", "U-Net against other tool", "sliding window against other tool"]),
        (4, []),
    ],
)
def test_disagreement_is_shown_by_pairs_and_by_the_number_that_are_wrong(
    tmp_path: Path, methods: int, titles: list[str]
) -> None:
    write_slide_dataset(tmp_path, cases=1, shape=(40, 40), splits=["test"])
    masks = [np.full((40, 40), index % 2, np.uint8) for index in range(methods)]
    (picture,) = draw(read_cases(tmp_path), *masks)
    shown = [tile.title for tile in picture.tiles][2 + methods :]
    assert shown == titles + (["methods that are wrong"] if methods > 2 else [])


def test_the_more_methods_are_wrong_the_darker() -> None:
    wrong = np.array([[0, 1, 2, 3]], np.uint8)
    shown = overlay_wrong(np.full((1, 4, 3), 255, np.uint8), wrong, 3)[0].astype(int)
    assert shown[0].tolist() == [255, 255, 255]
    assert (np.diff(shown.sum(axis=1)) < 0).all()
    assert np.abs(shown[3] - rgb(NEITHER)).max() <= 26
