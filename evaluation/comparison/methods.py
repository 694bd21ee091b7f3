"""Methods of a comparison: bundles, which segment the cases in a process each, and folders of masks; what each is called.

The masks of a bundle are kept in files, and are opened for scoring with their objects.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.cases import Case, open_case_image
from evaluation.comparison.cost import multiply_adds_patch_by_patch, multiply_adds_per_pixel
from evaluation.comparison.measurement import Measurement, SegmentationJob, TilesDone, measure
from evaluation.comparison.result import BundleFacts, Cost
from evaluation.scoring.array_source import ArraySource
from evaluation.scoring.case_scores import CaseMask
from evaluation.scoring.evaluate import MaskFolder
from inference.objects.find import number_objects
from inference.objects.settings import object_settings
from models import bundle
from models.architectures import count_parameters
from models.bundle import Bundle

METHOD_TITLES = {"unet": "U-Net", "sliding_window": "sliding window"}


@dataclass(frozen=True)
class BundleMasks:
    """Masks of a bundle's cases on disk.

    Args:
        bundle: the bundle.
        files: .npy file of each case's mask, by the case's name.
        objects: .npy files of the numbers of objects, by the case's name; empty where references number none.
        measurement: time and memory that the masks took.
    """

    bundle: Bundle
    files: Mapping[str, Path]
    objects: Mapping[str, Path]
    measurement: Measurement

    @contextmanager
    def open(self, case: Case) -> Iterator[CaseMask]:
        """Open the mask of a case."""
        labels = ArraySource(np.load(self.files[case.name], mmap_mode="r")[None])
        objects = None
        if case.name in self.objects:
            objects = ArraySource(np.load(self.objects[case.name], mmap_mode="r")[None])
        yield CaseMask(labels, objects)

    @property
    def facts(self) -> BundleFacts:
        """What the manifest says of the training."""
        manifest = self.bundle.manifest
        seed = self.bundle.config.run.seed
        return BundleFacts(
            name=manifest.name,
            method=manifest.method,
            seed=seed,
            training_steps=manifest.training_steps,
            commit=manifest.commit,
        )

    def cost(self, shapes: Sequence[tuple[int, ...]]) -> Cost:
        """Return the cost of the masks.

        Args:
            shapes: shape of each image at the spacing that the bundle was trained at.
        """
        config, networks = self.bundle.config, self.bundle.networks
        patch_by_patch = multiply_adds_patch_by_patch(config)
        patch_s = self.measurement.patch_by_patch_s
        return Cost(
            measurement=self.measurement,
            multiply_adds_per_pixel=len(networks) * multiply_adds_per_pixel(config, shapes),
            patch_by_patch_per_pixel=patch_by_patch and len(networks) * patch_by_patch,
            patch_by_patch_seconds=patch_s and patch_s * sum(math.prod(shape) for shape in shapes),
            parameters=sum(map(count_parameters, networks)),
            training_seconds=self.bundle.manifest.training_seconds,
        )


Masks = BundleMasks | MaskFolder


def segment_cases(trained: Bundle, cases: Sequence[Case], folder: Path, on_tiles: TilesDone) -> BundleMasks:
    """Segment cases with a bundle in a new process, and find the objects of the masks where references number them.

    Time and memory are those of the masks; finding the objects isn't measured.

    Args:
        trained: the bundle.
        cases: the cases.
        folder: new folder for the files.
        on_tiles: called with the tiles done so far, over all cases.

    Raises:
        DataError: a case can't be read or doesn't suit, with its name, or the process ended early.
    """
    folder.mkdir()
    files = {case.name: folder / f"{index}.npy" for index, case in enumerate(cases)}  # names need not be valid for files
    measurement = measure(SegmentationJob(trained.folder, tuple(cases), tuple(files.values())), on_tiles)
    objects = {case.name: _number_objects(case, files[case.name], trained) for case in cases if case.instances}
    return BundleMasks(trained, files, objects, measurement)


def _number_objects(case: Case, path: Path, trained: Bundle) -> Path:
    """Find the objects of a case's mask, write their numbers (*S) uint32 beside it, and return the file."""
    with open_case_image(case) as image:
        section = object_settings(trained.config, image.spacing_um)
    mask = np.load(path, mmap_mode="r")
    target = path.with_name(f"objects_{path.name}")
    numbers = np.lib.format.open_memmap(target, "w+", np.uint32, mask.shape)
    number_objects(mask, section, numbers)
    numbers.flush()
    return target


def load_bundles(paths: Sequence[Path]) -> dict[int, Bundle]:
    """Load the bundles among the paths of methods, by their position; the other paths are folders of masks.

    Raises:
        BundleError: a bundle is broken, or its run isn't finished.
    """
    marks = (bundle.MANIFEST, bundle.BUNDLE, "checkpoints")  # of a bundle, a run, and a run that isn't finished
    return {index: bundle.load(path) for index, path in enumerate(paths) if any((path / mark).exists() for mark in marks)}


def method_labels(paths: Sequence[Path], bundles: dict[int, Bundle]) -> tuple[str, ...]:
    """Return a display name for each method that no other method has.

    A bundle is called by its method, or else by its run; a folder of masks by its name, or else with the folder that it is in.
    What is still equal gets a number.
    """
    names = []
    for index, path in enumerate(paths):
        if index in bundles:
            manifest = bundles[index].manifest
            names.append((METHOD_TITLES[manifest.method], manifest.name))
        else:
            folder = path.resolve()
            names.append((folder.name, f"{folder.parent.name}/{folder.name}"))
    short = [each[0] for each in names]
    labels = [longer if short.count(label) > 1 else label for label, longer in names]
    return tuple(
        f"{label} ({labels[: index + 1].count(label)})" if labels.count(label) > 1 else label
        for index, label in enumerate(labels)
    )
