"""Facts of cases against NumPy on the same pixels, and labels of references against their files."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tifffile import imwrite

from datasets import fingerprint, foreground_parts
from datasets.cases import Case
from datasets.fingerprint import read_facts
from datasets.labels.counts import check_label_counts, check_labels, count_labels
from datasets.references import check_aligned, open_reference
from imaging.errors import DataError
from imaging.open import open_image
from tests.phantom import write_volume


def picture(folder: Path, pixels: np.ndarray, labels: np.ndarray) -> Case:
    Image.fromarray(pixels).save(folder / "image.png")
    Image.fromarray(labels).save(folder / "reference.png")
    return Case("x", (folder / "image.png",), folder / "reference.png")


def labels_of(*squares: tuple[int, int, int, int]) -> np.ndarray:
    labels = np.zeros((40, 50), np.uint8)
    for number, (row, column, height, width) in enumerate(squares, start=1):
        labels[row : row + height, column : column + width] = number
    return labels


def test_facts(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    labels = labels_of((0, 0, 4, 10), (10, 10, 6, 6), (30, 30, 8, 2))
    facts = read_facts(picture(tmp_path, pixels, labels))
    assert (facts.name, facts.shape, facts.spacing_um, facts.dtype) == ("x", (40, 50), None, "uint8")
    assert facts.label_counts == {0: 2000 - 92, 1: 40, 2: 36, 3: 16}
    assert facts.object_px == (6, 6)
    assert facts.sha256 == (hashlib.sha256((tmp_path / "image.png").read_bytes()).hexdigest(),)
    for channel, result in enumerate(facts.image):
        values = pixels[..., channel]
        expected = (values.min(), values.max(), values.mean(), values.std(), *np.percentile(values, (50, 0.5, 99.5)))
        np.testing.assert_allclose(tuple(vars(result).values()), expected)
    inside = pixels[labels > 0]
    np.testing.assert_allclose([result.mean for result in facts.foreground], inside.mean(axis=0))
    np.testing.assert_allclose([result.deviation for result in facts.foreground], inside.std(axis=0))


def test_a_volume_in_slabs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voxels = np.random.default_rng(0).normal(size=(12, 10, 8)).astype(np.float32)
    labels = np.zeros((12, 10, 8), np.uint8)
    labels[1:9, 2:6, 4:6] = 1
    write_volume(tmp_path / "image.nii.gz", voxels, (3000.0, 1000.0, 1000.0))
    write_volume(tmp_path / "reference.nii.gz", labels, (3000.0, 1000.0, 1000.0))
    case = Case("x", (tmp_path / "image.nii.gz",), tmp_path / "reference.nii.gz")
    whole = read_facts(case)
    assert (whole.spacing_um, whole.object_px) == ((3000.0, 1000.0, 1000.0), (8, 4, 2))
    monkeypatch.setattr(fingerprint, "SLAB_PIXELS", 100)
    slabs = read_facts(case)
    assert slabs.pixels_sha256 == whole.pixels_sha256
    assert slabs.label_counts == whole.label_counts
    np.testing.assert_allclose(tuple(vars(slabs.image[0]).values()), tuple(vars(whole.image[0]).values()), rtol=1e-6)
    assert (slabs.hole_px, slabs.opening_shares) == (whole.hole_px, whole.opening_shares)
    monkeypatch.setattr(foreground_parts, "OBJECT_PIXELS", 130)
    subsampled = read_facts(case)
    assert subsampled.object_px == (8, 4, 2)
    assert (subsampled.hole_px, subsampled.opening_shares) == (None, ())


def test_holes_and_what_an_opening_leaves(tmp_path: Path) -> None:
    pixels = np.zeros((40, 50, 3), np.uint8)
    solid = read_facts(picture(tmp_path, pixels, labels_of((10, 10, 12, 14))))
    assert solid.hole_px is None
    assert solid.opening_shares == tuple((168 - corners) / 168 for corners in (4, 12, 20))
    labels = labels_of((10, 10, 12, 14), (0, 30, 5, 5))
    labels[12:14, 12:15] = 0
    labels[0:2, 32] = 0  # open to the image's border
    labels[30, 5:45] = 3  # thinner than any disc
    facts = read_facts(picture(tmp_path, pixels, labels))
    assert facts.hole_px == 6
    assert facts.opening_shares[0] < 0.8
    nothing = read_facts(picture(tmp_path, pixels, labels_of()))
    assert (nothing.hole_px, nothing.opening_shares) == (None, ())


def test_a_large_slide_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.tile(labels_of((5, 5, 6, 4)), (10, 10))  # 400 x 500
    case = picture(tmp_path, (labels * 50 + 100).astype(np.uint8), labels)
    monkeypatch.setattr(fingerprint, "WHOLE_PIXELS", 1000)
    monkeypatch.setattr(fingerprint, "BLOCK_PX", 45)
    facts = read_facts(case)
    assert facts.pixels_sha256 is None
    assert facts.label_counts == {0: 200_000 - 2400, 1: 2400}  # references are counted whole
    assert facts.object_px == (6, 4)
    assert (facts.image[0].minimum, facts.image[0].maximum, facts.foreground[0].mean) == (100, 150, 150)


def test_no_reference(tmp_path: Path) -> None:
    case = picture(tmp_path, np.zeros((40, 50), np.uint8), labels_of())
    facts = read_facts(Case("x", case.images))
    assert (facts.foreground, facts.label_counts, facts.object_px) == ((), {}, None)
    assert facts.pixels_sha256 == read_facts(case).pixels_sha256


def test_a_folder_that_is_an_image_has_one_digest(tmp_path: Path) -> None:
    case = picture(tmp_path, np.zeros((40, 50), np.uint8), labels_of())
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a").write_text("a")
    digest = fingerprint.sha256_of_path(tmp_path / "folder")
    (tmp_path / "folder/a").rename(tmp_path / "folder/b")
    assert fingerprint.sha256_of_path(tmp_path / "folder") != digest
    assert fingerprint.sha256_of_path(case.images[0]) == read_facts(case).sha256[0]


def test_objects_as_one_class(tmp_path: Path) -> None:
    case = picture(tmp_path, np.zeros((40, 50), np.uint8), labels_of((0, 0, 4, 4), (10, 10, 4, 4), (20, 20, 4, 4)))
    with open_reference(Case("x", case.images, case.reference, instances=True)) as reference:
        assert (reference.dtype, reference.channels, reference.mask_format) == (np.uint8, 1, "png")
        assert reference.held_bytes >= 0
        assert count_labels(next(reference.blocks())) == {0: 2000 - 48, 1: 48}


def test_labels_that_are_not_whole() -> None:
    assert count_labels(np.array([0, 1, 1], np.float32)) == {0: 1, 1: 2}
    assert count_labels(np.array([-1, 2], np.int16)) == {-1: 1, 2: 1}
    with pytest.raises(DataError) as caught:
        check_labels(np.array([[0, 0.5, 1.5, 0.5]], np.float32), 2)
    assert caught.value.code == "labels_not_whole"
    assert caught.value.message == (
        "reference holds 0.5 (2 pixels), 1.5 (1 pixels), which are no labels; export it without smoothing or interpolation"
    )


def test_labels_of_a_smoothed_picture() -> None:
    with pytest.raises(DataError, match=r"and 12 more; allowed are 0 \.\. 1, .*; so many come from smoothing or from JPEG"):
        check_label_counts(dict.fromkeys(range(22), 1), 2)


def test_a_reference_that_lost_its_labels(tmp_path: Path) -> None:
    case = picture(tmp_path, np.zeros((40, 50), np.uint8), labels_of())
    Image.fromarray(labels_of()).save(tmp_path / "reference.jpg")
    with pytest.raises(DataError) as caught:
        open_reference(Case("x", case.images, tmp_path / "reference.jpg"))
    assert caught.value.code == "reference_lossy"
    assert caught.value.message == "reference is a JPEG, which changes labels at every edge; export it as PNG or TIFF"


def test_a_reference_of_another_resolution(tmp_path: Path) -> None:
    for name, spacing_um in (("image", 0.5), ("near", 0.504), ("far", 0.25)):
        imwrite(tmp_path / f"{name}.tif", labels_of(), resolution=(1e4 / spacing_um,) * 2, resolutionunit=3)
    image, near, far = (open_image(tmp_path / f"{name}.tif", labels=True) for name in ("image", "near", "far"))
    with image, near, far:
        check_aligned(image, near)
        with pytest.raises(DataError) as caught:
            check_aligned(image, far)
    assert caught.value.code == "reference_spacing"
    assert caught.value.message == (
        "reference's spacing is 0.25 x 0.25 um, its image's 0.5 x 0.5 um, allowed is 1% more or less; "
        "export it from this image, or give spacing_um in cases.csv"
    )
