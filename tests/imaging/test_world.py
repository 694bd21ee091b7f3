"""Positions in an image's world, against nibabel's affines."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from affines import ORIENTATIONS, affine_of, rotation
from numpy.typing import NDArray

from imaging.open import open_image
from imaging.source import Geometry
from imaging.world import world_affine


def world_of(positions: NDArray[np.float64], geometry: Geometry) -> NDArray[np.float64] | None:
    affine = world_affine(geometry)
    return None if affine is None else np.asarray(nib.affines.apply_affine(affine, positions))


def test_2d_is_in_micrometres_from_the_first_pixel() -> None:
    positions = np.array([[0.0, 0.0], [10.0, 4.0]])
    world = world_of(positions, Geometry((20, 30), (0.5, 0.25)))
    assert world is not None
    assert world.tolist() == [[0, 0], [5, 1]]
    moved = world_of(positions, Geometry((20, 30), (0.5, 0.25), origin_um=(100.0, 7.0)))
    assert moved is not None
    assert moved.tolist() == [[100, 7], [105, 8]]
    assert world_of(positions, Geometry((20, 30))) is None


def test_volumes_without_an_affine_are_in_millimetres() -> None:
    world = world_of(np.array([[1.0, 2.0, 4.0]]), Geometry((5, 5, 5), (2000.0, 500.0, 250.0)))
    assert world is not None
    assert world.tolist() == [[2, 1, 1]]


@pytest.mark.parametrize("turn", [(0.0, 0.0, 0.0), (0.2, -0.1, 0.3)], ids=["straight", "oblique"])
def test_volumes_are_in_the_world_of_their_affine(tmp_path: Path, turn: tuple[float, float, float]) -> None:
    """Check each voxel's place for all 48 orientations: that of the voxel with the same value, by nibabel."""
    voxels = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    for number, (axes, flips) in enumerate(ORIENTATIONS):
        affine = affine_of(axes, flips)
        affine[:3, :3] = rotation(turn) @ affine[:3, :3]
        path = tmp_path / f"{number}.nii"
        nib.Nifti1Image(voxels, affine).to_filename(path)
        stored = nib.load(path).affine
        with open_image(path) as source:
            inside = source.read(tuple(slice(0, size) for size in source.shape))[0]
            places = np.argwhere(inside >= 0)
            world = world_of(places.astype(np.float64), source.geometry)
        in_file = np.argwhere(voxels >= 0)[inside.reshape(-1).astype(int)]
        expected = nib.affines.apply_affine(stored, in_file)
        assert world is not None
        assert np.allclose(world[:, ::-1], expected, atol=1e-4)
