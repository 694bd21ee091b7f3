"""Maps of values: they come back as they were and where they were."""

from pathlib import Path

import numpy as np
import pytest

from configs.sections import ClassSection
from imaging.errors import UnsuitableImage
from imaging.open import open_image
from imaging.source import Geometry
from imaging.writing.band_writer import open_value_writer
from imaging.writing.formats import suffix_of, value_formats

FAT = ClassSection(name="fat", colour="#ffffff")
FLAT = Geometry((5, 7), spacing_um=(0.5, 0.25))
SOLID = Geometry((4, 5, 6), spacing_um=(2000.0, 1000.0, 1500.0))


@pytest.mark.parametrize(("geometry", "format"), [(FLAT, "tiff"), (SOLID, "tiff"), (SOLID, "nifti")])
def test_what_is_written_is_read(tmp_path: Path, geometry: Geometry, format: str) -> None:
    values = np.random.default_rng(0).normal(scale=1e3, size=geometry.shape).astype(np.float32)
    path = tmp_path / f"a{suffix_of(format)}"
    with open_value_writer(path, geometry, format=format, quantity=FAT) as writer:
        writer.write(0, values[:2])
        writer.write(2, values[2:])
    with open_image(path, labels=True) as source:
        assert source.spacing_um == pytest.approx(geometry.spacing_um)
        np.testing.assert_array_equal(next(source.blocks())[0], values)


def test_an_affine_stays(tmp_path: Path) -> None:
    affine = np.diag([-1.5, 1.0, 2.0, 1.0])
    geometry = Geometry((4, 5, 6), (2000.0, 1000.0, 1500.0), affine, (1, 0))
    values = np.arange(120, dtype=np.float32).reshape(4, 5, 6)
    with open_value_writer(tmp_path / "a.nii.gz", geometry, format="nifti", quantity=FAT) as writer:
        writer.write(0, values)
    with open_image(tmp_path / "a.nii.gz") as source:
        np.testing.assert_allclose(source.geometry.affine, affine)
        np.testing.assert_array_equal(next(source.blocks())[0], values)


def test_formats() -> None:
    assert value_formats(FLAT) == ("tiff",)
    assert value_formats(SOLID) == ("tiff", "nifti")


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsuitableImage, match=r"a map of values of the size \(5, 7\) can't be written as nifti; choose tiff"):
        open_value_writer(tmp_path / "a.nii", FLAT, format="nifti", quantity=FAT)
    with (
        pytest.raises(ValueError, match="some values are NaN or infinite: the network's weights are broken"),
        open_value_writer(tmp_path / "a.tiff", FLAT, format="tiff", quantity=FAT) as writer,
    ):
        writer.write(0, np.full((5, 7), np.nan, np.float32))
    assert list(tmp_path.iterdir()) == []
