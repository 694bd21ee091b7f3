"""Which cases two bundles may honestly be compared on, and whether they may be compared at all."""

from collections.abc import Sequence
from pathlib import Path

from configs.schema import Config
from configs.sections import DataSection
from datasets.cases import Case, about, open_case_image, read_cases
from datasets.fingerprint import sha256_of
from datasets.references import check_aligned, check_labels, open_reference
from imaging.errors import DataError
from inference.compatibility import at_trained_spacing, check_suitable
from models.bundle import Bundle, Manifest
from models.bundle_agreement import differences
from models.heads import check_gives_masks

SHOWN_CASES = 10  # more of them only fill the screen


def held_out_cases(data: Path, split: str | None, meaning: DataSection | None = None) -> tuple[str, tuple[Case, ...]]:
    """The split and its cases: the one asked for, else `test`, else `val`; `meaning` is the bundles' data section.

    Raises:
        DataError: `held_out_missing`: no such case; `reference_missing`: a case without reference.
    """
    cases = read_cases(data, meaning)
    for name in (split,) if split else ("test", "val"):
        chosen = tuple(case for case in cases if case.split == name)
        if chosen:
            _check_references(chosen)
            return name, chosen
    wanted = split or "test or val"
    raise DataError(
        "held_out_missing",
        f"no case has the split {wanted}; add a column split to {data / 'cases.csv'} with {split or 'test'} at the cases "
        "that training hasn't seen",
    )


def _check_references(cases: Sequence[Case]) -> None:
    missing = [case.name for case in cases if case.reference is None]
    if missing:
        raise DataError(
            "reference_missing",
            f"{len(missing)} of {len(cases)} cases have no reference to compare with: {listed(missing)}; "
            "add their references to cases.csv, or take their split away",
        )


def check_comparable(first: Manifest, second: Manifest) -> None:
    """Nothing, if both bundles answer the same question.

    Raises:
        DataError: `bundles_not_comparable`, with every difference in dimensions, channels, classes and spacing.
    """
    found = differences(first, second)
    if found:
        raise DataError(
            "bundles_not_comparable",
            f"{first.name} and {second.name} differ in {'; '.join(found)}: their numbers mean different things; "
            "train both from the same data section",
        )


def check_one_class_a_pixel(bundles: Sequence[Bundle]) -> None:
    """Nothing, if what both bundles give can be counted pixel by pixel and class by class.

    Raises:
        BundleError: one gives values.
        DataError: `classes_overlap`: of one a pixel can have several classes.
    """
    for bundle in bundles:
        check_gives_masks(bundle.config)
        if bundle.config.head.kind == "multi_label":
            raise DataError(
                "classes_overlap",
                f"{bundle.manifest.name} has classes that overlap, and bundles are compared by masks, which have one a pixel; "
                "train both with head.kind softmax",
            )


def check_unseen(cases: Sequence[Case], bundles: Sequence[Bundle]) -> None:
    """Nothing, if neither bundle's training or validation saw one of these images.

    Raises:
        DataError: `training_cases_compared`, with the cases.
    """
    digests = {case.name: {sha256_of(path) for path in case.images} for case in cases}
    problems = []
    for bundle in bundles:
        seen = [name for name, digest in digests.items() if digest & set(bundle.manifest.training_images)]
        if seen:
            problems.append(f"training of {bundle.manifest.name} saw {len(seen)} of {len(cases)} cases: {listed(seen)}")
    if problems:
        raise DataError(
            "training_cases_compared",
            f"{'; '.join(problems)}; compare on cases that neither training nor validation saw: "
            "give them the split test, or give another data set",
        )


def check_case(case: Case, config: Config) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shape, own and at the trained spacing, of a case whose image suits the bundles and whose reference suits the image.

    Raises:
        DataError: with the case's name: what can't be read, doesn't suit, or is of another shape, or has unknown labels.
    """
    with about(case), open_case_image(case) as image, open_reference(case) as reference:
        check_suitable(image, config)
        check_aligned(image, reference)
        for block in reference.blocks():
            check_labels(block, len(config.data.classes), case.ignore_label)
        return image.shape, at_trained_spacing(image, config.data).shape


def group_note(cases: Sequence[Case]) -> str | None:
    """A word on cases that belong together; None where every case is a group of its own."""
    groups = {case.group for case in cases if case.group is not None}
    if not groups:
        return (
            "cases.csv names no groups. If several cases come from one patient or one field, they aren't independent, "
            "and the interval is narrower than it should be."
        )
    count = len(groups) + sum(case.group is None for case in cases)
    if count == len(cases):
        return None
    groups_word = "1 group" if count == 1 else f"{count} groups"
    return (
        f"The {len(cases)} cases come from {groups_word} (patients or fields), and cases of one group aren't independent: "
        "the interval is over cases, not over patients, and narrower than one over patients."
    )


def training_note(first: Manifest, second: Manifest) -> str | None:
    """A word on bundles that weren't trained on the same images; None where they were."""
    one, other = set(first.training_images), set(second.training_images)
    if one == other:
        return None
    return (
        f"The bundles weren't trained on the same images: {len(one)} and {len(other)}, of which {len(one & other)} are common. "
        "This compares the bundles, and not the methods alone."
    )


def listed(names: Sequence[str]) -> str:
    """The names with commas, the eleventh and later ones as a number."""
    rest = len(names) - SHOWN_CASES
    return ", ".join(names[:SHOWN_CASES]) + (f" and {rest} more" if rest > 0 else "")
