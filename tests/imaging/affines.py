"""Where a volume can lie: all 48 orientations, and turned ones."""

import itertools

import numpy as np

ORIENTATIONS = [
    (axes, flips) for axes in itertools.permutations(range(3)) for flips in itertools.product((1, -1), repeat=3)
]  # 48


def affine_of(axes, flips, zooms=(1.0, 2.0, 3.0)):
    """File axis i runs along the patient's axes[i], in the direction flips[i]."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for file_axis, (world, flip, zoom) in enumerate(zip(axes, flips, zooms, strict=True)):
        affine[world, file_axis] = flip * zoom
    affine[:3, 3] = (-10, 20, 30)
    return affine


def rotation(angles):
    x, y, z = angles
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return about_x @ about_y @ about_z
