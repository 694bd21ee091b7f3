"""Comparison of two bundles on phantoms: every number against the bundles' masks in this process."""

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_samples import UNET, WINDOW, MakeBundle, edit_cases

from datasets.cases import Case, read_cases
from disk.digest import sha256_of_file
from evaluation.comparison.compare import compare
from evaluation.comparison.measurement import SegmentationJob, measure
from evaluation.comparison.pair_result import Comparison, method_labels
from evaluation.metrics.overlap import overlaps
from evaluation.report.html_page import render_report
from imaging.errors import DataError
from imaging.open import open_image
from inference.predictors.loading import load_predictor
from inference.segment import segment_array
from models import bundle
from models.bundle import BundleError
from tests.phantom import write_slide_dataset, write_volume_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_slide_dataset(folder, cases=5, shape=(40, 56), splits=["train", "test", "test", "test", "test"])
    return folder


@pytest.fixture(scope="module")
def progress() -> list[tuple[int, int]]:
    return []


@pytest.fixture(scope="module")
def comparison(data: Path, unet: Path, window: Path, progress: list[tuple[int, int]]) -> Comparison:
    return compare((unet, window), data, None, lambda done, total: progress.append((done, total)))


def mask_of(folder: Path, image: Path) -> np.ndarray:
    with open_image(image) as source:
        return segment_array(source, load_predictor(bundle.load(folder), torch.device("cpu")))


def reference_of(case: Case) -> np.ndarray:
    assert case.reference is not None
    with open_image(case.reference, labels=True) as source:
        return source.read(tuple(slice(0, size) for size in source.shape))[0]


def put_in_one_group(rows: list[dict[str, str]]) -> None:
    for row in rows:
        row["group"] = "one patient"


def test_every_case_scores_what_its_masks_score_here(comparison: Comparison, data: Path, unet: Path, window: Path) -> None:
    cases = [case for case in read_cases(data) if case.split == "test"]
    assert [case.name for case in comparison.cases] == [case.name for case in cases]
    for case, result in zip(cases, comparison.cases, strict=True):
        masks = mask_of(unet, case.images[0]), mask_of(window, case.images[0])
        for mask, values in zip(masks, result.overlaps, strict=True):
            np.testing.assert_equal(values, overlaps(mask, reference_of(case), 2))
        assert result.agreement == (masks[0] == masks[1]).mean()
        np.testing.assert_equal(result.agreement_dice, overlaps(masks[0], masks[1], 2).macro_dice)
        assert result.shape == (40, 56)
        assert not result.empty


def test_what_was_compared(comparison: Comparison) -> None:
    assert comparison.split == "test"
    assert comparison.pixels == 4 * 40 * 56
    assert [method.label for method in comparison.methods] == ["U-Net", "sliding window"]
    assert [method.name for method in comparison.methods] == ["phantom_unet", "phantom_window"]
    assert comparison.methods[0].training_steps == 1234
    assert comparison.methods[1].seed == 7
    assert 0 <= comparison.agreement <= 1
    assert any("names no groups" in note for note in comparison.notes)


def test_the_cost_is_measured(comparison: Comparison) -> None:
    for method in comparison.methods:
        assert len(method.measurement.seconds) == 4
        assert min(method.measurement.seconds) > 0
        assert method.seconds == pytest.approx(sum(method.measurement.seconds))
        assert method.measurement.peak_bytes >= method.measurement.loaded_bytes > 2**20
        assert method.measurement.compared_bytes >= 0
        assert method.measurement.machine.threads >= 1
        assert method.measurement.machine.versions["torch"] == torch.__version__
        assert method.multiply_adds_per_pixel > 0
    assert comparison.methods[0].patch_by_patch_per_pixel is None
    assert comparison.methods[1].patch_by_patch_per_pixel
    assert comparison.methods[1].parameters == 3 * 4 * 4 + 4 + 4 * 4 * 9 + 4 + 4 * 4 + 4 + 4 * 2 + 2


def test_two_classes_have_a_baseline(comparison: Comparison) -> None:
    assert comparison.baseline is not None
    assert comparison.baseline.foreground == "darker"  # the phantom's nuclei are
    assert comparison.baseline.mean_dice > 0.8
    assert any("doesn't beat Otsu's threshold" in remark for remark in comparison.verdict.remarks)


def test_progress_counts_the_tiles_of_both(comparison: Comparison, progress: list[tuple[int, int]]) -> None:
    assert comparison.cases
    assert [done for done, _ in progress] == list(range(1, 9))
    assert {total for _, total in progress} == {8}


def test_pictures_show_all_four_cases(comparison: Comparison) -> None:
    assert {picture.name for picture in comparison.pictures} == {case.name for case in comparison.cases}
    for picture in comparison.pictures:
        assert [tile.title for tile in picture.tiles] == ["image", "reference", "U-Net", "sliding window", "disagreement"]
        assert all(tile.png.startswith(b"\x89PNG") for tile in picture.tiles)


def test_it_renders(comparison: Comparison) -> None:
    html = render_report(comparison)
    assert "phantom_unet" in html
    assert html.count("<figure>") == 20


def test_volumes_of_three_classes(tmp_path: Path, make_bundle: MakeBundle) -> None:
    write_volume_dataset(tmp_path, cases=3, shape=(10, 12, 14), splits=["val"] * 3)
    edit_cases(tmp_path, put_in_one_group)
    sizes = {"dimensions": 3, "classes": 3, "data": {"spacing_um": [1000.0] * 3}}
    bundles = [make_bundle(name, model, **sizes) for name, model in (("one", UNET), ("other", WINDOW))]
    comparison = compare((bundles[0], bundles[1]), tmp_path)
    assert comparison.split == "val"
    assert comparison.baseline is None
    assert comparison.baseline_omitted == "one threshold makes two classes, and there are 3"
    assert all(len(case.overlaps[0].dice) == 2 for case in comparison.cases)
    assert "3 cases come from 1 group " in comparison.notes[0]
    assert "split val" in comparison.notes[-1]
    assert comparison.pictures[0].where.startswith("slice ")
    html = render_report(comparison)
    assert "Dice of class2" in html
    assert "no baseline by Otsu" in html


def test_equal_methods_are_labelled_by_name() -> None:
    assert method_labels(("unet", "unet"), ("a", "b")) == ("a", "b")
    assert method_labels(("unet", "unet"), ("a", "a")) == ("a (first)", "a (second)")
    assert method_labels(("sliding_window", "unet"), ("a", "a")) == ("sliding window", "U-Net")


def test_nothing_runs_when_the_comparison_would_be_unfair(data: Path, unet: Path, make_bundle: MakeBundle) -> None:
    digest = sha256_of_file(read_cases(data)[1].images[0])
    with pytest.raises(DataError, match="training of leaky saw 1 of 4 cases: case001"):
        compare((unet, make_bundle("leaky", WINDOW, images=[digest])), data)
    with pytest.raises(DataError, match="differ in classes"):
        compare((unet, make_bundle("three", WINDOW, classes=3)), data)
    with pytest.raises(BundleError, match="no bundle here"):
        compare((unet, data), data)


def test_a_process_that_dies_is_reported(tmp_path: Path, data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="ended early, with status 1") as caught:
        measure(SegmentationJob(tmp_path / "nothing", read_cases(data)[:1], (tmp_path / "mask.npy",)))
    assert caught.value.code == "measurement_stopped"
    assert "BundleError" in capfd.readouterr().err  # the reason stays visible


def test_an_error_of_a_case_crosses_the_process_with_its_name(tmp_path: Path, unet: Path) -> None:
    image = tmp_path / "broken.png"
    image.write_bytes(b"")
    with pytest.raises(DataError, match="case broken: the file is empty") as caught:
        measure(SegmentationJob(unet, (Case("broken", (image,)),), (tmp_path / "mask.npy",)))
    assert caught.value.code == "empty_file"
