"""Selection of the compared cases, and every reason to refuse a comparison."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_samples import UNET, WINDOW, MakeBundle, edit_cases, make_config
from PIL import Image

from datasets.cases import Case, read_cases
from disk.digest import sha256_of_file
from evaluation.comparison.held_out import (
    check_case,
    check_comparable,
    check_not_trained_on,
    group_note,
    join_names,
    open_reference,
    select_held_out_cases,
    training_note,
)
from imaging.errors import DataError
from models import bundle
from tests.phantom import write_slide_dataset, write_volume_dataset


def slides(folder: Path, *splits: str) -> Path:
    write_slide_dataset(folder, cases=len(splits), shape=(24, 32), splits=splits)
    return folder


def refused(code: str, words: str) -> "pytest.RaisesExc[DataError]":
    return pytest.RaisesExc(DataError, match=words, check=lambda error: error.code == code)


@pytest.mark.parametrize(
    ("splits", "asked", "split", "count"),
    [
        (("train", "val", "test", "test"), None, "test", 2),
        (("train", "val", "val"), None, "val", 2),
        (("train", "val", "test"), "val", "val", 1),
    ],
)
def test_test_comes_before_val(tmp_path: Path, splits: tuple[str, ...], asked: str | None, split: str, count: int) -> None:
    found, cases = select_held_out_cases(slides(tmp_path, *splits), asked)
    assert (found, len(cases)) == (split, count)
    assert {case.split for case in cases} == {split}


@pytest.mark.parametrize(("asked", "wanted"), [(None, "test or val"), ("test", "test")])
def test_without_held_out_cases_it_says_what_to_add(tmp_path: Path, asked: str | None, wanted: str) -> None:
    words = f"no case has the split {wanted}; add a column split to .*cases.csv with test at the cases that training"
    with refused("held_out_missing", words):
        select_held_out_cases(slides(tmp_path, "train", "train"), asked)


def test_cases_without_reference_are_named(tmp_path: Path) -> None:
    slides(tmp_path, "test", "test")
    edit_cases(tmp_path, lambda rows: rows[1].update(reference=""))
    with refused("reference_missing", "1 of 2 cases have no reference to compare with: case001"):
        select_held_out_cases(tmp_path, None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": 3}, "classes class0, class1 and class0, class1, class2"),
        ({"dimensions": 3}, "dimensions 2 and 3; channels red, green, blue and T1"),
        ({"data": {"channels": ["a", "b", "c"]}}, "channels red, green, blue and a, b, c"),
        ({"data": {"spacing_um": [0.5, 0.5]}}, "spacing not given and 0.5 x 0.5 um"),
    ],
)
def test_bundles_for_different_tasks(make_bundle: MakeBundle, unet: Path, options: dict[str, str], words: str) -> None:
    other = make_bundle("other", WINDOW, **options)
    with refused("bundles_not_comparable", f"phantom_unet and other differ in {words}: .*train both from the same data"):
        check_comparable(bundle.load(unet).manifest, bundle.load(other).manifest)


def test_spacings_differ_beyond_rounding(make_bundle: MakeBundle) -> None:
    first, same, other = (
        bundle.load(make_bundle(name, UNET, data={"spacing_um": [value, value]})).manifest
        for name, value in (("first", 0.5), ("same", 0.50001), ("other", 0.6))
    )
    check_comparable(first, same)
    with refused("bundles_not_comparable", "spacing 0.5 x 0.5 um and 0.6 x 0.6 um"):
        check_comparable(first, other)


def test_cases_that_training_saw_are_refused(tmp_path: Path, make_bundle: MakeBundle, unet: Path) -> None:
    cases = read_cases(slides(tmp_path, "train", "test", "test"))
    digest = sha256_of_file(cases[2].images[0])
    leaky = make_bundle("leaky", WINDOW, images=[digest])
    check_not_trained_on(cases[1:2], (bundle.load(unet), bundle.load(leaky)))
    with refused("training_cases_compared", "training of leaky saw 1 of 2 cases: case002; compare on cases that neither"):
        check_not_trained_on(cases[1:], (bundle.load(unet), bundle.load(leaky)))


def test_a_copy_under_another_name_is_found_too(tmp_path: Path, make_bundle: MakeBundle) -> None:
    cases = read_cases(slides(tmp_path, "train", "test"))
    leaky = bundle.load(make_bundle("copied", UNET, images=[sha256_of_file(cases[0].images[0])]))
    cases[1].images[0].write_bytes(cases[0].images[0].read_bytes())
    with refused("training_cases_compared", "saw 1 of 1 cases: case001"):
        check_not_trained_on(cases[1:], (leaky, leaky))


def test_a_sound_case(tmp_path: Path) -> None:
    (case,) = read_cases(slides(tmp_path, "test"))
    assert check_case(case, make_config("run", UNET)) == ((24, 32), (24, 32))


def test_a_spacing_that_is_not_known_is_refused_and_one_given_in_the_table_is_taken(tmp_path: Path) -> None:
    (case,) = read_cases(slides(tmp_path, "test"))
    config = make_config("run", UNET, data={"spacing_um": [0.5, 0.5]})
    with pytest.raises(
        DataError, match=r"doesn't say how far apart its pixels are, and the model was trained at 0\.5 x 0\.5 um"
    ):
        check_case(case, config)
    assert check_case(replace(case, spacing_um=(0.25,)), config) == ((24, 32), (12, 16))


@pytest.mark.parametrize(
    ("reference", "code", "words"),
    [
        (np.zeros((24, 31)), "reference_shape", r"reference \(24, 31\) has another shape than its image \(24, 32\)"),
        (np.full((24, 32), 5), "labels_unknown", r"reference holds 5 \(768 pixels\); allowed are 0 \.\. 1"),
        (np.zeros((24, 32, 3)), "reference_channels", "reference has 3 channels, allowed is 1"),
    ],
)
def test_references_that_do_not_fit(tmp_path: Path, reference: np.ndarray, code: str, words: str) -> None:
    (case,) = read_cases(slides(tmp_path, "test"))
    assert case.reference is not None
    Image.fromarray(reference.astype(np.uint8)).save(case.reference)
    with refused(code, f"case case000: {words}"):
        check_case(case, make_config("run", UNET))


def test_images_that_do_not_fit_are_named(tmp_path: Path) -> None:
    write_volume_dataset(tmp_path, cases=1, shape=(8, 8, 8), splits=["test"])
    (case,) = read_cases(tmp_path)
    with refused("dimension_not_supported", "case case000: image has 3 dimensions, the model takes 2"):
        check_case(case, make_config("run", UNET))


def test_broken_images_are_named(tmp_path: Path) -> None:
    (case,) = read_cases(slides(tmp_path, "test"))
    case.images[0].write_bytes(b"no image at all")
    with refused("unsupported_format", "case case000: "):
        check_case(case, make_config("run", UNET))


def test_a_case_without_reference_has_none_to_open(tmp_path: Path) -> None:
    with refused("reference_missing", "there is no reference"):
        open_reference(Case("a", (tmp_path / "a.png",)))


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([None, None], "cases.csv names no groups"),
        (["a", "b"], None),
        (["a", "a", "b"], "The 3 cases come from 2 groups"),
        (["a", "a", None], "The 3 cases come from 2 groups"),
    ],
)
def test_a_note_on_groups(groups: Sequence[str | None], words: str | None) -> None:
    cases = [Case(str(index), (Path("image"),), group=group) for index, group in enumerate(groups)]
    note = group_note(cases)
    assert note is None if words is None else note is not None and note.startswith(words)


def test_a_note_on_other_training_images(make_bundle: MakeBundle) -> None:
    one, other = (
        bundle.load(make_bundle(name, UNET, images=images)).manifest for name, images in (("one", "ab"), ("other", "bcd"))
    )
    assert training_note(one, one) is None
    assert "2 and 3, of which 1 are common" in (training_note(one, other) or "")


def test_long_lists_are_cut() -> None:
    assert join_names(["a", "b"]) == "a, b"
    assert join_names([str(index) for index in range(12)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"


def test_cases_mean_what_the_bundles_config_says(tmp_path: Path) -> None:
    data = make_config("one", UNET).data.model_copy(update={"instances": True})
    _, cases = select_held_out_cases(slides(tmp_path, "test"), None, data)
    assert cases[0].classes == tuple(section.name for section in data.classes)
    assert cases[0].instances
