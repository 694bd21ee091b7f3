"""Affines of volumes whose axes are turned."""

import numpy as np
import pytest
from affines import ORIENTATIONS, affine_of
from nibabel import orientations

from imaging.voxels import affine_inside, geometry_inside


@pytest.mark.parametrize(("axes", "flips"), ORIENTATIONS)
def test_the_affine_inside_does_not_depend_on_how_a_file_is_turned(axes, flips):
    affine = affine_of(axes, flips)
    shape = (4, 5, 6)
    other = orientations.io_orientation(affine)
    canonical = affine @ orientations.inv_ornt_aff(other, shape)
    turned = orientations.apply_orientation(np.zeros(shape), other).shape
    expected = affine_inside(geometry_inside(turned, canonical, None))
    np.testing.assert_allclose(affine_inside(geometry_inside(shape, affine, None)), expected)
    np.testing.assert_array_equal(np.diag(expected)[:3] > 0, True)
