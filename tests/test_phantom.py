import csv

import numpy as np
import pytest

from imaging.open import open_image
from tests.phantom import draw_slide, draw_volume, write_slide_dataset, write_volume_dataset


def test_a_slide_has_purple_blobs_on_pink():
    image, mask = draw_slide((90, 120), 3)
    assert (image.shape, image.dtype, mask.shape, mask.dtype) == ((3, 90, 120), np.uint8, (90, 120), np.uint8)
    assert set(np.unique(mask)) == {0, 1}
    assert 0.05 < mask.mean() < 0.4
    assert image[0, mask == 1].mean() < image[0, mask == 0].mean() - 50
    np.testing.assert_array_equal(image, draw_slide((90, 120), 3)[0])


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_a_volumes_classes_differ_in_brightness(dtype):
    image, mask = draw_volume((20, 24, 28), 5, dtype=dtype)
    assert (image.shape, image.dtype, mask.shape) == ((1, 20, 24, 28), dtype, (20, 24, 28))
    assert set(np.unique(mask)) == {0, 1, 2}
    means = [image[0][mask == label].mean() for label in range(3)]
    assert means[0] + 100 < means[1] < means[2] - 100


@pytest.mark.parametrize(("write", "suffix"), [(write_slide_dataset, ".png"), (write_volume_dataset, ".nii.gz")])
def test_a_data_set_is_listed_and_reads_back(tmp_path, write, suffix):
    with write(tmp_path, cases=4).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == ["train", "train", "val", "test"]
    for row in rows:
        assert row["image"].endswith(suffix)
        with open_image(tmp_path / row["image"]) as image, open_image(tmp_path / row["reference"], labels=True) as reference:
            assert image.geometry == reference.geometry
            assert reference.channels == 1
            whole = tuple(slice(0, size) for size in reference.shape)
            assert set(np.unique(reference.read(whole))) <= {0, 1, 2}


def test_a_volume_data_set_keeps_its_spacing(tmp_path):
    write_volume_dataset(tmp_path, cases=1, spacing_um=(3000.0, 2000.0, 1000.0), splits=["test"])
    with open_image(tmp_path / "images/case000.nii.gz") as image:
        assert image.spacing_um == (3000.0, 2000.0, 1000.0)
