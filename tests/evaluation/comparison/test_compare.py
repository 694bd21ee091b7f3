"""Comparison of bundles and folders of masks on phantoms: every number against the masks in this process."""

import io
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_samples import UNET, WINDOW, MakeBundle, edit_cases
from PIL import Image

from configs.schema import ConfigError
from datasets.cases import Case, read_cases
from disk.digest import sha256_of_file
from evaluation.comparison.compare import ComparisonOptions, compare
from evaluation.comparison.measurement import SegmentationJob, measure
from evaluation.comparison.methods import method_labels
from evaluation.comparison.pareto import pareto_points
from evaluation.comparison.result import Comparison
from evaluation.metrics.overlap import overlaps
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
def masks(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the masks of another tool, which misses the objects on the right."""
    folder = tmp_path_factory.mktemp("masks") / "other tool"
    folder.mkdir()
    for case in read_cases(data):
        mask = reference_of(case).copy()
        mask[:, 40:] = 0
        Image.fromarray(mask).save(folder / f"{case.name}.png")
    return folder


@pytest.fixture(scope="module")
def progress() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture(scope="module")
def comparison(data: Path, unet: Path, window: Path, masks: Path, progress: list[tuple[str, int, int]]) -> Comparison:
    return compare((unet, masks, window), data, on_progress=lambda *report: progress.append(report))


def mask_of(folder: Path, image: Path) -> np.ndarray:
    with open_image(image) as source:
        return segment_array(source, load_predictor(bundle.load(folder), torch.device("cpu")))


def reference_of(case: Case) -> np.ndarray:
    assert case.reference is not None
    with open_image(case.reference, labels=True) as source:
        return source.read(tuple(slice(0, size) for size in source.shape))[0]


def held_out(data: Path) -> list[Case]:
    return [case for case in read_cases(data) if case.split == "test"]


def test_every_method_scores_what_its_masks_score_here(
    comparison: Comparison, data: Path, unet: Path, window: Path, masks: Path
) -> None:
    assert [case.name for case in comparison.cases] == [case.name for case in held_out(data)]
    for index, case in enumerate(held_out(data)):
        pixels = (
            mask_of(unet, case.images[0]),
            np.asarray(Image.open(masks / f"{case.name}.png")),
            mask_of(window, case.images[0]),
        )
        for method, mask in zip(comparison.methods, pixels, strict=True):
            expected = overlaps(mask, reference_of(case), 2)
            assert method.table.case_values("dice")[case.name] == pytest.approx(expected.macro_dice, nan_ok=True)
            assert method.table.case_values("iou")[case.name] == pytest.approx(expected.macro_iou, nan_ok=True)
        for agreement, (first, second) in zip(comparison.agreements, combinations(pixels, 2), strict=True):
            assert agreement.equal[index] == (first == second).mean()
            assert agreement.dice[index] == pytest.approx(overlaps(first, second, 2).macro_dice, nan_ok=True)
        assert comparison.cases[index].shape == (40, 56)
        assert not comparison.cases[index].empty


def test_what_was_compared(comparison: Comparison) -> None:
    assert comparison.split == "test"
    assert comparison.headline == "dice"
    assert comparison.pixels == 4 * 40 * 56
    assert [method.label for method in comparison.methods] == ["U-Net", "other tool", "sliding window"]
    assert [method.kind for method in comparison.methods] == ["bundle", "masks", "bundle"]
    assert [method.table.method for method in comparison.methods] == ["U-Net", "other tool", "sliding window"]
    facts = comparison.methods[2].bundle
    assert facts is not None
    assert (facts.name, facts.seed, facts.training_steps) == ("phantom_window", 7, 1234)
    assert any("names no groups" in note for note in comparison.notes)
    assert any("not known which cases other tool saw" in note for note in comparison.notes)


def test_pairs_are_those_of_the_tables(comparison: Comparison) -> None:
    numbers = [(pair.first, pair.second) for pair in comparison.pairs if pair.metric == "dice"]
    assert numbers == [(0, 1), (0, 2), (1, 2)]
    for pair in comparison.pairs:
        first, second = (comparison.methods[number].table for number in (pair.first, pair.second))
        values = zip(first.case_values(pair.metric).values(), second.case_values(pair.metric).values(), strict=True)
        expected = [after - before for before, after in values]
        np.testing.assert_array_equal(pair.difference.second_minus_first, expected)
        assert (pair.corrected_p is None) == (pair.metric != "dice")
    assert "the 3 pairs of methods" in comparison.family


def test_four_cases_show_nothing(comparison: Comparison) -> None:
    assert comparison.verdict.sentence.startswith(
        "Nothing was shown: 4 cases are too few, at least 10 are needed; mean Dice is"
    )


def test_the_cost_is_measured(comparison: Comparison) -> None:
    first, folder, second = (method.cost for method in comparison.methods)
    assert folder is None
    assert first is not None
    assert second is not None
    for cost in (first, second):
        assert len(cost.measurement.seconds) == 4
        assert min(cost.measurement.seconds) > 0
        assert cost.seconds == pytest.approx(sum(cost.measurement.seconds))
        assert cost.measurement.peak_bytes >= cost.measurement.loaded_bytes > 2**20
        assert cost.memory_bytes >= 0
        assert cost.measurement.machine.threads >= 1
        assert cost.measurement.machine.versions["torch"] == torch.__version__
        assert cost.multiply_adds_per_pixel > 0
    assert (first.patch_by_patch_per_pixel, first.patch_by_patch_seconds) == (None, None)
    assert second.patch_by_patch_per_pixel
    assert second.patch_by_patch_seconds
    assert second.parameters == 3 * 4 * 4 + 4 + 4 * 4 * 9 + 4 + 4 * 4 + 4 + 4 * 2 + 2


def test_bundles_are_points_of_quality_and_cost(comparison: Comparison) -> None:
    points = pareto_points(comparison, "multiply_adds")
    assert [(point.method, point.is_naive) for point in points] == [(0, False), (2, False), (2, True)]
    assert points[2].cost > points[1].cost
    assert not points[2].is_on_front  # the same masks for more work
    assert any(point.is_on_front for point in points)
    assert len(pareto_points(comparison, "seconds")) == 3


def test_two_classes_have_a_baseline(comparison: Comparison) -> None:
    assert comparison.baseline is not None
    assert comparison.baseline.foreground == "darker"  # the phantom's nuclei are
    assert comparison.baseline.mean_dice > 0.8
    assert any("doesn't beat Otsu's threshold" in remark for remark in comparison.verdict.remarks)


def test_progress_counts_the_tiles_of_both_bundles(comparison: Comparison, progress: list[tuple[str, int, int]]) -> None:
    assert comparison.cases
    assert [done for what, done, _ in progress if what == "tiles"] == list(range(1, 9))
    assert {total for what, _, total in progress if what == "tiles"} == {8}


def test_pictures_show_each_mask_each_pair_and_how_many_are_wrong(comparison: Comparison) -> None:
    assert {picture.name for picture in comparison.pictures} == {case.name for case in comparison.cases}
    for picture in comparison.pictures:
        assert [tile.title for tile in picture.tiles] == [
            "image", "reference", "U-Net", "other tool", "sliding window",
            "U-Net against other tool", "U-Net against sliding window", "other tool against sliding window",
            "methods that are wrong",
        ]  # fmt: skip
        sizes = {Image.open(io.BytesIO(tile.png)).size for tile in picture.tiles}
        assert len(sizes) == 1


def test_a_bundle_against_itself_and_a_folder_against_itself(data: Path, unet: Path, masks: Path) -> None:
    for method in (unet, masks):
        comparison = compare((method, method), data, ComparisonOptions(metrics=("dice", "hd95")))
        for metric in ("dice", "hd95"):
            difference = comparison.pair(metric, 0, 1).difference
            assert (difference.mean, difference.p_value) == (0, 1)
        assert comparison.agreements[0].equal_pixels == 1
        assert comparison.verdict.sentence.startswith("No difference: ")
    assert [method.label for method in comparison.methods] == [
        f"{masks.parent.name}/other tool (1)",
        f"{masks.parent.name}/other tool (2)",
    ]


def test_swapping_two_methods_flips_every_sign(data: Path, window: Path, masks: Path) -> None:
    one, other = (compare(methods, data) for methods in ((window, masks), (masks, window)))
    for pair, swapped in zip(one.pairs, other.pairs, strict=True):
        assert pair.difference.mean == -swapped.difference.mean != 0
        assert pair.difference.p_value == swapped.difference.p_value
        assert (pair.difference.wins, pair.difference.losses) == (swapped.difference.losses, swapped.difference.wins)


def test_volumes_of_three_classes_in_one_group(tmp_path: Path, make_bundle: MakeBundle) -> None:
    write_volume_dataset(tmp_path, cases=3, shape=(10, 12, 14), splits=["val"] * 3)
    edit_cases(tmp_path, lambda rows: [row.update(group="one patient") for row in rows] and None)
    sizes = {"dimensions": 3, "classes": 3, "data": {"spacing_um": [1000.0] * 3}}
    bundles = [make_bundle(name, model, **sizes) for name, model in (("one", UNET), ("other", WINDOW))]
    comparison = compare(bundles, tmp_path)
    assert comparison.split == "val"
    assert comparison.baseline is None
    assert comparison.baseline_omitted == "one threshold makes two classes, and there are 3"
    assert comparison.methods[0].table.classes_of("dice") == ("class1", "class2")
    assert any("3 cases come from 1 group " in note for note in comparison.notes)
    assert "split val" in comparison.notes[-1]
    assert comparison.pictures[0].where.startswith("slice ")
    difference = comparison.pair("dice", 0, 1).difference
    assert (difference.unit, difference.units, difference.interval) == ("group", 1, None)
    assert comparison.verdict.sentence.startswith("Nothing was shown: all cases come from one group")


def test_a_missing_mask_is_refused_counted_as_empty_or_left_out_for_all(
    tmp_path: Path, data: Path, masks: Path, unet: Path
) -> None:
    some = tmp_path / "some"
    some.mkdir()
    for path in sorted(masks.iterdir())[:-1]:
        (some / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="1 of 4 cases have no mask: case004") as caught:
        compare((masks, some), data)
    assert caught.value.code == "masks_missing"
    empty = compare((masks, some), data, ComparisonOptions(missing="empty"))
    assert empty.methods[1].table.case_values("dice")["case004"] == 0
    assert any("some: 1 of 4 cases have no mask: case004" in note for note in empty.notes)
    others = tmp_path / "others"
    others.mkdir()
    (others / "case004.png").write_bytes((masks / "case004.png").read_bytes())
    with pytest.raises(DataError, match="no case has a mask in every folder"):
        compare((some, others), data, ComparisonOptions(missing="leave-out"))
    left_out = compare((unet, some), data, ComparisonOptions(missing="leave-out"))
    assert [case.name for case in left_out.cases] == ["case001", "case002", "case003"]
    assert left_out.methods[0].table.cases == ("case001", "case002", "case003")


def test_the_headline_can_be_chosen_and_lower_may_be_better(data: Path, masks: Path, window: Path) -> None:
    comparison = compare((masks, window), data, ComparisonOptions(headline="hd95", metrics=("dice",)))
    assert (comparison.headline, comparison.metrics) == ("hd95", ("dice", "hd95"))
    assert comparison.pair("hd95", 0, 1).difference.better == "lower"
    assert "mean HD95 is" in comparison.verdict.sentence
    with pytest.raises(ConfigError, match="--headline: f2 unknown; choose from dice"):
        compare((masks, window), data, ComparisonOptions(headline="f2"))


def test_distances_in_micrometres_and_pixels_are_not_compared(tmp_path: Path, masks: Path, data: Path) -> None:
    mixed = tmp_path / "mixed"
    write_slide_dataset(mixed, cases=5, shape=(40, 56), splits=["train", "test", "test", "test", "test"])

    def give_one_a_spacing(rows: list[dict[str, str]]) -> None:
        for row in rows:
            row["spacing_um"] = "0.5" if row["case"] == "case002" else ""

    edit_cases(mixed, give_one_a_spacing)
    comparison = compare((masks, masks), mixed, ComparisonOptions(metrics=("dice", "hd95")))
    assert comparison.metrics == ("dice",)
    beginning = f"HD95 has several units ({masks.parent.name}/other tool (1): px/um"
    assert any(note.startswith(beginning) for note in comparison.notes)
    with pytest.raises(DataError, match=r"HD95 has several units.*give the spacing of every case") as caught:
        compare((masks, masks), mixed, ComparisonOptions(headline="hd95"))
    assert caught.value.code == "units_differ"


def test_labels_are_methods_or_else_runs_or_else_numbered(unet: Path, window: Path, make_bundle: MakeBundle) -> None:
    other = make_bundle("other_unet", UNET)

    def labels(*paths: Path) -> tuple[str, ...]:
        return method_labels(
            paths, {index: bundle.load(path) for index, path in enumerate(paths) if (path / "manifest.json").exists()}
        )

    assert labels(unet, window) == ("U-Net", "sliding window")
    assert labels(unet, other, window) == ("phantom_unet", "other_unet", "sliding window")
    assert labels(unet, unet) == ("phantom_unet (1)", "phantom_unet (2)")
    assert labels(Path("/a/masks"), Path("/b/masks"), unet) == ("a/masks", "b/masks", "U-Net")


def test_nothing_runs_when_the_comparison_would_be_unfair(data: Path, unet: Path, masks: Path, make_bundle: MakeBundle) -> None:
    digest = sha256_of_file(read_cases(data)[1].images[0])
    with pytest.raises(DataError, match="training of leaky saw 1 of 4 cases: case001"):
        compare((unet, masks, make_bundle("leaky", WINDOW, images=[digest])), data)
    with pytest.raises(DataError, match="differ in classes"):
        compare((unet, masks, make_bundle("three", WINDOW, classes=3)), data)
    with pytest.raises(DataError, match="is no folder"):
        compare((unet, data / "nothing"), data)
    with pytest.raises(ConfigError, match="two or more methods"):
        compare((unet,), data)


def test_a_run_that_is_not_finished_is_no_folder_of_masks(tmp_path: Path, data: Path, unet: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(BundleError, match="the run isn't finished"):
        compare((unet, tmp_path), data)


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
