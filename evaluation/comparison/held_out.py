"""Held-out cases of a comparison, and checks that the two bundles and the cases allow a fair one."""

from collections.abc import Sequence
from pathlib import Path

from configs.schema import Config
from configs.sections import DataSection
from datasets.cases import Case, open_case_image, prefix_errors, read_cases
from datasets.fingerprint import sha256_of_path
from datasets.labels.counts import check_labels
from datasets.references import check_aligned, open_reference
from imaging.errors import DataError
from inference.compatibility import at_trained_spacing, check_suitable
from models.bundle import Bundle, Manifest
from models.bundle_agreement import differences
from models.heads import check_gives_masks

SHOWN_CASES = 10  # names listed in a message


def select_held_out_cases(data: Path, split: str | None, section: DataSection | None = None) -> tuple[str, tuple[Case, ...]]:
    """Return the name of a split and its cases: the given split, or else `test`, or else `val`.

    Args:
        data: the data set's folder.
        split: name of the split; None takes the first of `test` and `val` that has cases.
        section: the bundles' data section, which says what the references mean.

    Raises:
        DataError: `held_out_missing`: no case has that split; `reference_missing`: a case has no reference.
    """
    cases = read_cases(data, section)
    names = (split,) if split else ("test", "val")
    split_cases = {name: tuple(case for case in cases if case.split == name) for name in names}
    name = next((name for name in names if split_cases[name]), None)
    if name is None:
        raise DataError(
            "held_out_missing",
            f"no case has the split {split or 'test or val'}; add a column split to {data / 'cases.csv'} with "
            f"{split or 'test'} at the cases that training hasn't seen, or draw splits before a training with: overtile cases",
        )
    missing = [case.name for case in split_cases[name] if case.reference is None]
    if missing:
        raise DataError(
            "reference_missing",
            f"{len(missing)} of {len(split_cases[name])} cases have no reference to compare with: {join_names(missing)}; "
            "add their references to cases.csv, or remove their split",
        )
    return name, split_cases[name]


def check_comparable(first: Manifest, second: Manifest) -> None:
    """Refuse two bundles that were trained for different tasks.

    Raises:
        DataError: `bundles_not_comparable`, with every difference in dimensions, channels, classes and spacing.
    """
    mismatches = differences(first, second)
    if mismatches:
        raise DataError(
            "bundles_not_comparable",
            f"{first.name} and {second.name} differ in {'; '.join(mismatches)}: their numbers mean different things; "
            "train both from the same data section",
        )


def check_exclusive_classes(bundles: Sequence[Bundle]) -> None:
    """Refuse bundles whose outputs are not one class per pixel.

    Raises:
        BundleError: a bundle predicts values instead of classes.
        DataError: `classes_overlap`: a bundle can give a pixel several classes.
    """
    for bundle in bundles:
        check_gives_masks(bundle.config)
        if bundle.config.head.kind == "multi_label":
            raise DataError(
                "classes_overlap",
                f"{bundle.manifest.name} has classes that overlap, but bundles are compared by masks with one class per pixel; "
                "train both with head.kind softmax",
            )


def check_not_trained_on(cases: Sequence[Case], bundles: Sequence[Bundle]) -> None:
    """Refuse cases whose images were used to train or validate one of the bundles.

    Raises:
        DataError: `training_cases_compared`, with the cases.
    """
    digests = {case.name: {sha256_of_path(path) for path in case.images} for case in cases}
    problems = []
    for bundle in bundles:
        names = [name for name, digest in digests.items() if digest & set(bundle.manifest.training_images)]
        if names:
            problems.append(f"training of {bundle.manifest.name} saw {len(names)} of {len(cases)} cases: {join_names(names)}")
    if problems:
        raise DataError(
            "training_cases_compared",
            f"{'; '.join(problems)}; compare on cases that neither training nor validation saw: "
            "give them the split test, or give another data set",
        )


def check_case(case: Case, config: Config) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Check that a case suits the bundles, and return its shape as stored and at the spacing of training.

    Raises:
        DataError: with the case's name: a file can't be read, the image doesn't suit the bundles, or the reference has
            another shape or unknown labels.
    """
    with prefix_errors(case), open_case_image(case) as image, open_reference(case) as reference:
        check_suitable(image, config)
        check_aligned(image, reference)
        for block in reference.blocks():
            check_labels(block, len(config.data.classes), case.ignore_label)
        return image.shape, at_trained_spacing(image, config.data).shape


def group_note(cases: Sequence[Case]) -> str | None:
    """Return a note on cases that are not independent of each other; None where every case is a group of its own."""
    groups = {case.group for case in cases if case.group is not None}
    if not groups:
        return (
            "cases.csv names no groups. If several cases come from one patient or one field, they aren't independent, "
            "and the interval is too narrow."
        )
    count = len(groups) + sum(case.group is None for case in cases)
    if count == len(cases):
        return None
    groups_word = "1 group" if count == 1 else f"{count} groups"
    return (
        f"The {len(cases)} cases come from {groups_word} (patients or fields), and cases of one group aren't independent: "
        "the interval treats them as independent and is narrower than an interval over patients."
    )


def training_note(first: Manifest, second: Manifest) -> str | None:
    """Return a note on bundles that were trained on different images; None where the images were the same."""
    images, other_images = set(first.training_images), set(second.training_images)
    if images == other_images:
        return None
    return (
        f"The bundles weren't trained on the same images: {len(images)} and {len(other_images)}, "
        f"of which {len(images & other_images)} are common. This compares the bundles, and not the methods alone."
    )


def join_names(names: Sequence[str]) -> str:
    """Join the first ten names with commas, and say how many more there are."""
    rest = len(names) - SHOWN_CASES
    return ", ".join(names[:SHOWN_CASES]) + (f" and {rest} more" if rest > 0 else "")
