"""Patches per second of augmentation, compared with the nearest equivalents in MONAI and torchio, on one thread.

    OMP_NUM_THREADS=1 PYTHONPATH=. .venv/bin/python benchmarks/augmentation.py

All three rotate, scale, deform, flip, change gamma, brightness and contrast, and add noise. Borders are mirrored (torchio can't
mirror and fills them); images are interpolated linearly and references by nearest neighbour. MONAI has its fastest settings: no
tracking of metadata, cached grids, and after RandAffined a deformation by RandSmoothDeformd, which draws a coarse grid as
Overtile does. Rotation, scaling and deformation in one resampling by Rand2DElasticd or Rand3DElasticd take twice as long, since
they smooth noise of the patch's full size. torchio does less, since it has neither brightness nor contrast. It isn't a
dependency of Overtile; if it isn't installed (`pip install torchio` in a separate environment), its columns are left out.
"""

import argparse
import math
import os
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec

import cv2
import numpy as np
import torch
from monai import transforms as monai
from monai.data import set_track_meta
from numpy.typing import NDArray

from configs.sections import AugmentSection
from evaluation.comparison.measurement import describe_machine
from transforms.augment import make_augment

SHAPES = ((3, 256, 256), (1, 64, 64, 64))
POINTS = 7  # points of the elastic grid along each axis; the default of torchio
Run = Callable[[int], object]  # seed -> an augmented patch


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patches", type=int, default=1000, help="patches per library and row, in all repeats")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    _use_one_thread()
    warnings.simplefilter("ignore")
    libraries = {"Overtile": overtile, "MONAI": monai_pipeline} | (
        {"torchio": torchio_pipeline} if find_spec("torchio") else {}
    )
    versions = ", ".join(f"{name} {version(name.lower())}" for name in libraries)
    ran_on = describe_machine(torch.device("cpu"))
    versions += f", torch {torch.__version__}, OpenCV {cv2.__version__}, NumPy {np.__version__}"
    print(f"{ran_on.processor}, 1 thread; {versions};")
    print(f"{arguments.patches} patches per library in {arguments.repeats} turns, medians over turns.\n")
    print("| patch | probability | " + " | ".join(f"{name}, patches/s" for name in libraries), end=" | ")
    print(" | ".join(f"times {name}" for name in libraries if name != "Overtile") + " |")
    print("| --- " + "| ---: " * (2 * len(libraries)) + "|")
    for shape in SHAPES:
        for probability in (1.0, AugmentSection().probability):
            runs = {name: make(shape, probability) for name, make in libraries.items()}
            print(row(shape, probability, paired(runs, arguments.patches // arguments.repeats, arguments.repeats)), flush=True)


def row(shape: tuple[int, ...], probability: float, seconds: dict[str, list[float]]) -> str:
    """Return a row of the table, given each library's seconds per patch in each turn."""
    rates = [f"{1 / statistics.median(durations):.0f}" for durations in seconds.values()]
    ratios = [
        f"{statistics.median(other / own for own, other in zip(seconds['Overtile'], durations, strict=True)):.1f}"
        for name, durations in seconds.items()
        if name != "Overtile"
    ]
    return f"| {' x '.join(map(str, shape))} | {probability:g} | {' | '.join(rates + ratios)} |"


def paired(runs: dict[str, Run], patches: int, repeats: int) -> dict[str, list[float]]:
    """Return the seconds per patch in each turn. The order alternates, and a first turn of a few patches is left out."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        names = list(runs) if repeat % 2 else list(reversed(runs))
        count = patches if repeat else 3
        for name in names:
            start_s = time.perf_counter()
            for number in range(count):
                runs[name](repeat * patches + number)
            if repeat:
                seconds[name].append((time.perf_counter() - start_s) / count)
    return seconds


def overtile(shape: tuple[int, ...], probability: float) -> Run:
    """Return Overtile's default augmentation, with POINTS points of the elastic grid."""
    augment = make_augment(AugmentSection(probability=probability, elastic_points=POINTS), len(shape) - 1)
    image, reference = patch(shape)
    return lambda seed: augment(image, reference, np.random.default_rng(seed))


def monai_pipeline(shape: tuple[int, ...], probability: float) -> Run:
    """Return the same augmentation by MONAI's dictionary transforms."""
    set_track_meta(False)
    transform = monai_transform(shape, probability)
    image, reference = (torch.from_numpy(part) for part in patch(shape))

    def run(seed: int) -> object:
        transform.set_random_state(seed)
        augmented = transform({"image": image, "reference": reference[None].float()})
        return augmented["image"], augmented["reference"][0].to(torch.uint8)

    return run


def monai_transform(shape: tuple[int, ...], probability: float) -> monai.Compose:
    """Return MONAI's transform of a patch (C, *S) under "image" and its reference (1, *S) under "reference"."""
    keys, section = ("image", "reference"), AugmentSection()
    axes = len(shape) - 1
    affine = monai.RandAffined(
        keys,
        spatial_size=shape[1:],
        prob=probability,
        rotate_range=[math.radians(section.rotation_degrees)] * (1 if axes == 2 else 3),
        scale_range=[section.scaling] * axes,
        mode=("bilinear", "nearest"),
        padding_mode="reflection",
        cache_grid=True,
    )
    elastic = monai.RandSmoothDeformd(
        keys,
        spatial_size=shape[1:],
        rand_size=(POINTS,) * axes,
        prob=probability,
        field_mode="bicubic" if axes == 2 else "trilinear",
        def_range=section.elastic_px * math.sqrt(3) / shape[1],
        grid_mode=("bilinear", "nearest"),
        grid_padding_mode="reflection",
    )
    return monai.Compose(
        [
            affine,
            elastic,
            *(monai.RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in range(axes)),
            monai.RandAdjustContrastd("image", gamma=(1 - section.gamma, 1 + section.gamma), prob=probability),
            monai.RandShiftIntensityd("image", offsets=section.brightness, prob=probability),
            monai.RandScaleIntensityFixedMeand("image", factors=section.contrast, preserve_range=False, prob=probability),
            monai.RandGaussianNoised("image", std=section.noise, prob=probability),
        ]
    )


def torchio_pipeline(shape: tuple[int, ...], probability: float) -> Run:
    """Return the same augmentation by torchio, without brightness and contrast; a 2D image is a volume of one slice."""
    import SimpleITK
    import torchio

    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    section = AugmentSection()
    flat = len(shape) == 3
    degrees = (0, 0, section.rotation_degrees) if flat else (section.rotation_degrees,) * 3
    displacement_px = (section.elastic_px, section.elastic_px, 0 if flat else section.elastic_px)
    transform = torchio.Compose(
        [
            torchio.RandomAffine(scales=section.scaling, degrees=degrees, isotropic=True, p=probability),
            torchio.RandomElasticDeformation(num_control_points=POINTS, max_displacement=displacement_px, p=probability),
            torchio.RandomFlip(axes=(0, 1) if flat else (0, 1, 2), flip_probability=0.5),
            torchio.RandomGamma(log_gamma=section.gamma, p=probability),
            torchio.RandomNoise(std=(0, section.noise), p=probability),
        ]
    )
    image, reference = (torch.from_numpy(part) for part in patch(shape))
    image, reference = (image[..., None], reference[None, ..., None]) if flat else (image, reference[None])

    def run(seed: int) -> object:
        torch.manual_seed(seed)
        subject = torchio.Subject(image=torchio.ScalarImage(tensor=image), reference=torchio.LabelMap(tensor=reference))
        augmented = transform(subject)
        return augmented["image"].data, augmented["reference"].data

    return run


def patch(shape: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return a random image (C, *S) in 0 .. 1 and a reference (*S) with three labels."""
    random = np.random.default_rng(0)
    return random.random(shape, np.float32), random.integers(0, 3, shape[1:]).astype(np.uint8)


def _use_one_thread() -> None:
    """Limit all libraries to one thread."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise SystemExit("OMP_NUM_THREADS isn't 1; set it before Python starts, so that NumPy uses one thread, too")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    np.ones(2**22 - 2**10)  # after 32 MB were freed, glibc keeps freed memory, as in a process that trains


if __name__ == "__main__":
    main()
