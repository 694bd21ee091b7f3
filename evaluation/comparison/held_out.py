"""Held-out cases of a comparison, and checks that the bundles and the cases allow a fair one."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from configs.schema import Config
from configs.sections import DataSection
from datasets.cases import Case, open_case_image, prefix_errors, read_cases
from datasets.fingerprint import sha256_of_path
from datasets.labels.counts import check_labels
from datasets.references import check_aligned, open_reference
from evaluation.scoring.scored_cases import ALL, ScoredCases, read_scored_cases
from imaging.errors import DataError
from inference.compatibility import at_trained_spacing, check_suitable
from models.bundle import Bundle
from models.heads import check_gives_masks
from models.manifest import Manifest, differences

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


def select_compared_cases(
    data: Path, split: str | None, bundles: Sequence[Bundle], config: Config | None = None
) -> ScoredCases:
    """Read the cases that methods are compared on, and refuse those that a bundle was trained on.

    Args:
        data: folder of the data set.
        split: train, val, test or all; None: test, or else val, or else, without bundles, all.
        bundles: the bundles among the methods.
        config: config whose classes the references have, where no method is a bundle.

    Raises:
        DataError: as `read_scored_cases`; with bundles also `held_out_missing`: there is neither test nor val, and
            `training_cases_compared`; `classes_overlap`: references have several classes per pixel.
    """
    config = bundles[0].config if bundles else config
    if bundles and split != ALL:
        split, _ = select_held_out_cases(data, split, config.data if config else None)
    scored = read_scored_cases(data, split, config)
    if any(case.other_references for case in scored.cases) or (config and config.head.kind == "multi_label"):
        raise DataError(
            "classes_overlap",
            "the references have classes that overlap, but methods are compared by masks with one class per pixel; score each "
            "with overtile evaluate",
        )
    check_not_trained_on(scored.cases, bundles)
    return scored


def check_bundles(bundles: Sequence[Bundle]) -> None:
    """Refuse bundles that were trained for different tasks, or that don't give one class per pixel.

    Raises:
        DataError: `bundles_not_comparable`, with every difference in dimensions, channels, classes and spacing;
            `classes_overlap`: a bundle can give a pixel several classes.
        BundleError: a bundle predicts values instead of classes.
    """
    check_exclusive_classes(bundles)
    for other in bundles[1:]:
        check_comparable(bundles[0].manifest, other.manifest)


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


def comparison_notes(cases: Sequence[Case], split: str, manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield what a reader must know of the cases, and of what the bundles were trained on.

    Args:
        cases: the compared cases.
        split: their split.
        manifests: manifests of the bundles among the methods.
    """
    notes = [group_note(cases), *(training_note(manifests[0], other) for other in manifests[1:])]
    yield from dict.fromkeys(note for note in notes if note)
    if split != "test":
        yield f"The cases are of the split {split}: scores are too good where that split was used to make choices."


def group_note(cases: Sequence[Case]) -> str | None:
    """Return a note on cases that are not independent of each other; None where every case is a group of its own."""
    if all(case.group is None for case in cases):
        return (
            "cases.csv names no groups. If several cases come from one patient or one field, they aren't independent, "
            "and intervals and p-values claim too much."
        )
    count = len({case.patient for case in cases})
    if count == len(cases):
        return None
    groups_word = "1 group" if count == 1 else f"{count} groups"
    return (
        f"The {len(cases)} cases come from {groups_word} (patients or fields), and cases of one group aren't independent: "
        "each group counts once in differences, intervals and p-values."
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
