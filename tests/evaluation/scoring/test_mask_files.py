"""Masks of a folder by the names of their cases."""

from pathlib import Path

import numpy as np
import pytest
from mask_data import write_image

from datasets.cases import Case
from evaluation.scoring.mask_files import MAPS, NUMBERED_WORDS, WORDS, FoundMasks, find_masks
from imaging.errors import DataError

PIXEL = np.zeros((1, 1), np.uint8)


def found_in(folder: Path, files: list[str], *cases: str, instances: bool = False, others: tuple[str, ...] = ()) -> FoundMasks:
    """Find the masks of cases, each given as its image's path, whose names without suffix are unlike the case's."""
    for file in files:
        write_image(folder / file, PIXEL)
    named = [Case(f"case {path}", (Path("/data") / path,), instances=instances) for path in (*cases, *others)]
    return find_masks(folder, named[: len(cases)], named[len(cases) :])


@pytest.mark.parametrize("word", ["", *(f"_{word}" for word in WORDS), "-mask", ".seg", " label"])
def test_a_word_may_follow_the_name_of_the_image(tmp_path: Path, word: str) -> None:
    found = found_in(tmp_path, [f"slide{word}.png"], "images/slide.png")
    assert found.by_case == {"case images/slide.png": tmp_path / f"slide{word}.png"}
    assert (found.missing, found.extra) == ((), ())


@pytest.mark.parametrize(
    "file",
    [
        "SLIDE.png",
        "cafe\N{COMBINING ACUTE ACCENT}/slide.png",
        "caf\N{LATIN SMALL LETTER E WITH ACUTE}_slide.png",
        "slide/mask.png",
    ],
)
def test_capitals_accents_and_folders(tmp_path: Path, file: str) -> None:
    found = found_in(tmp_path, [file], "caf\N{LATIN SMALL LETTER E WITH ACUTE}/slide.png")
    assert list(found.by_case.values()) == [tmp_path / file]


def test_images_of_one_name_in_several_folders_need_their_folders(tmp_path: Path) -> None:
    found = found_in(tmp_path, ["p1/ct.png", "p2_ct_mask.png"], "p1/ct.nii.gz", "p2/ct.nii.gz")
    assert found.by_case == {"case p1/ct.nii.gz": tmp_path / "p1/ct.png", "case p2/ct.nii.gz": tmp_path / "p2_ct_mask.png"}
    with pytest.raises(DataError, match=r"has no mask of the 2 cases: its images are ct\.png"):
        found_in(tmp_path / "flat", ["ct.png"], "p1/ct.nii.gz", "p2/ct.nii.gz")


def test_the_whole_name_wins_over_a_name_and_a_word(tmp_path: Path) -> None:
    found = found_in(tmp_path, ["a.png", "a_mask.png"], "a.png", "a_mask.png")
    assert found.by_case == {"case a.png": tmp_path / "a.png", "case a_mask.png": tmp_path / "a_mask.png"}


def test_channels_of_nnunet_have_one_mask(tmp_path: Path) -> None:
    write_image(tmp_path / "brain.png", PIXEL)
    case = Case("brain", (Path("brain_0000.nii.gz"), Path("brain_0001.nii.gz")))
    assert find_masks(tmp_path, [case]).by_case == {"brain": tmp_path / "brain.png"}


def test_the_masks_of_other_cases_and_maps_are_neither_taken_nor_reported(tmp_path: Path) -> None:
    files = ["a.png", "b.png", *(f"a_{name}.png" for name in MAPS), "stranger.png"]
    found = found_in(tmp_path, files, "a.png", others=("b.png",))
    assert found.by_case == {"case a.png": tmp_path / "a.png"}
    assert found.extra == (tmp_path / "stranger.png",)


@pytest.mark.parametrize("word", NUMBERED_WORDS)
def test_numbered_masks_are_taken_for_objects_and_others_for_classes(tmp_path: Path, word: str) -> None:
    files = ["a.png", f"a_{word}.tif"]
    assert list(found_in(tmp_path, files, "a.png").by_case.values()) == [tmp_path / "a.png"]
    assert list(found_in(tmp_path, files, "a.png", instances=True).by_case.values()) == [tmp_path / f"a_{word}.tif"]


def test_several_masks_of_a_case_are_refused_with_their_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"several masks of a case: a\.png and a_seg\.png") as error:
        found_in(tmp_path, ["a.png", "a_seg.png", "b.png"], "a.png", "b.png")
    assert error.value.code == "masks_doubled"


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder") as error:
        find_masks(tmp_path / "nowhere", [Case("a", (Path("a.png"),))])
    assert error.value.code == "masks_not_found"
