"""A sheared volume is refused with a command that works, and its mask comes back to its own grid."""

import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imaging.errors import UnsuitableImage
from imaging.open import open_image

PAGE = Path(__file__).parents[3] / "docs/formats.md"
TILTED = np.array([(-1, 0, 0, 16), (0, -1, 0.4, 20), (0, 0, 3, 0), (0, 0, 0, 1.0)])
CODE = re.compile(r'python -c "(.*?)"(?:$|[\s;])', re.MULTILINE)


def run(code, folder):
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, timeout=120)


def ball(affine, shape):
    """Return the voxels of a ball of radius 8 mm around the origin's (0, 0, 15) mm."""
    indices = np.indices(shape).reshape(3, -1)
    positions = affine[:3, :3] @ indices + affine[:3, 3:]
    return (np.linalg.norm(positions - [[0], [0], [15]], axis=0) < 8).reshape(shape).astype(np.int16)


def test_the_commands_of_message_and_documentation_work(tmp_path):
    shape = (33, 41, 11)
    nib.Nifti1Image(100 * ball(TILTED, shape), TILTED).to_filename(tmp_path / "IN.nii.gz")
    with pytest.raises(UnsuitableImage) as caught:
        open_image(tmp_path / "IN.nii.gz")
    assert caught.value.code == "affine_sheared"
    resample, back = CODE.findall(PAGE.read_text().partition("## Tilted and sheared volumes")[2])
    assert CODE.findall(caught.value.message) == [resample]
    run(resample, tmp_path)
    with open_image(tmp_path / "OUT.nii.gz") as source:
        pixels = np.concatenate(list(source.blocks()), axis=1)[0]
        affine = source.geometry.affine
    (tmp_path / "masks").mkdir()
    mask = (pixels.transpose() > 50).astype(np.uint8)  # the resampled grid is right-anterior-superior
    nib.Nifti1Image(mask, affine).to_filename(tmp_path / "masks/OUT.nii.gz")
    run(back, tmp_path)
    result = nib.load(tmp_path / "MASK.nii.gz")
    assert result.shape == shape
    np.testing.assert_allclose(result.affine, TILTED)
    found, expected = np.asanyarray(result.dataobj) > 0, ball(TILTED, shape) > 0
    assert 2 * (found & expected).sum() / (found.sum() + expected.sum()) > 0.9
