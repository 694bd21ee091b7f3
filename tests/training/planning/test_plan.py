"""Plans: nnU-Net's rules on given facts, requests that are refused, and planned configs that train unchanged."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from configs import schema
from configs.network_sections import SlidingWindowSection, UNetSection
from configs.quantities import parse_memory
from configs.schema import Config, ConfigError
from datasets.fingerprint import CaseFacts, Intensities
from imaging.errors import DataError
from inference.predictors.pass_memory import inference_bytes
from tests.phantom import write_slide_dataset, write_volume_dataset
from training.planning.data_choices import target_spacing
from training.planning.plan import PlanRequest, plan, planning_cases, write_config
from training.planning.step_memory import training_bytes
from training.planning.unet_choices import downsampling_steps
from training.planning.window_choices import WINDOWS, window_convolutions

CPU = torch.device("cpu")
CHECKOUT = Path(__file__).parents[3]
MM = 1000.0


def intensities(low: float = -100.0, high: float = 300.0, mean: float = 90.0) -> Intensities:
    return Intensities(minimum=-1000, maximum=3000, mean=mean, deviation=40, median=95, low=low, high=high)


def volume(shape: tuple[int, ...] = (40, 60, 50), spacing_um: tuple[float, ...] | None = (MM, MM, MM)) -> CaseFacts:
    return CaseFacts("v", shape, spacing_um, "int16", (intensities(),), (intensities(),), {0: 900, 1: 100}, (8.0,) * 3, ("a",))


def picture(shape: tuple[int, ...] = (90, 110), channels: int = 3) -> CaseFacts:
    values = (intensities(0, 255, 100),) * channels
    return CaseFacts("p", shape, None, "uint8", values, values, {0: 900, 1: 100}, (11.0, 13.0), ("a",))


def planned(facts: list[CaseFacts], tmp_path: Path, device: torch.device = CPU, **options: object) -> Config:
    text = plan(facts, PlanRequest(tmp_path / "data", **options), device).text  # type: ignore[arg-type]
    path = tmp_path / "planned.yaml"
    path.write_text(text)
    return schema.load(path)


def test_spacing_is_the_median_of_each_axis() -> None:
    assert target_spacing([volume(spacing_um=(step, 2.0, 5.0)) for step in (1.0, 3.0, 2.5)]) == (2.5, 2.0, 5.0)


def test_a_far_coarser_axis_takes_its_10th_percentile() -> None:
    facts = [volume((20, 300, 300), (step, MM, MM)) for step in (4 * MM, 5 * MM, 5 * MM, 5 * MM, 6 * MM)]
    assert target_spacing(facts) == (4.4 * MM, MM, MM)


def test_a_coarser_axis_with_many_slices_keeps_its_median() -> None:
    assert target_spacing([volume((200, 300, 300), (5 * MM, MM, MM))] * 3) == (5 * MM, MM, MM)


def test_no_spacing_where_one_case_has_none(tmp_path: Path) -> None:
    config = planned([volume(), volume(spacing_um=None)], tmp_path)
    assert config.data.spacing_um is None
    assert "# 1 of 2 cases have no spacing, so images are not resampled:" in (tmp_path / "planned.yaml").read_text()


def test_patch_covers_the_median_volume_and_no_more(tmp_path: Path) -> None:
    config = planned([volume((36, 50, 35))] * 20, tmp_path)
    assert isinstance(config.model, UNetSection)
    assert config.model.features == (16, 32, 64, 128)  # 35 -> 17 -> 8 -> 4
    assert config.patch_size == (40, 56, 40)
    assert config.data.spacing_um == (MM, MM, MM)
    assert config.sampling.foreground_share == 0.33
    assert config.trainer.batch_size >= 2


def test_patch_is_isotropic_in_micrometres(tmp_path: Path) -> None:
    config = planned([volume((200, 500, 500), (2 * MM, MM, MM))] * 3, tmp_path, memory_bytes=10**11)
    depth, height, width = config.patch_size
    assert height == width
    assert 1.7 < height / depth < 2.3


def test_thick_slices_are_halved_later_than_their_pixels(tmp_path: Path) -> None:
    config = planned([volume((20, 320, 256), (3.6 * MM, 0.62 * MM, 0.62 * MM))] * 20, tmp_path, memory_bytes=10**11)
    assert isinstance(config.model, UNetSection)
    assert config.model.strides == ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2))
    assert config.model.kernels == ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
    assert config.patch_size == (20, 256, 256)
    assert "axes are halved 2 x 5 x 5 times" in (tmp_path / "planned.yaml").read_text()


def test_plans_of_equal_axes_leave_kernels_and_strides_to_the_default(tmp_path: Path) -> None:
    model = planned([volume()], tmp_path).model
    assert isinstance(model, UNetSection)
    assert (model.kernels, model.strides) == (None, None)


@pytest.mark.parametrize(
    ("sides", "spacing_um", "strides", "kernels"),
    [
        ((8, 8), (1, 1), ((2, 2),), ((3, 3), (3, 3))),
        ((64, 11), (1, 1), ((2, 2), (2, 1), (2, 1)), ((3, 3),) * 4),  # the last one alone: not below 12 pixels
        ((16, 64, 64), (2, 1, 1), ((1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)), ((1, 3, 3), *((3, 3, 3),) * 4)),
        ((7, 5), (1, 1), ((2, 2),), ((3, 3), (3, 3))),  # one step at least
    ],
)
def test_steps_down(sides: tuple[int, ...], spacing_um: tuple[float, ...], strides: object, kernels: object) -> None:
    assert downsampling_steps(sides, spacing_um) == (strides, kernels)


@pytest.mark.parametrize("memory_bytes", [3 * 10**8])
def test_shrinks_until_it_fits(memory_bytes: int, tmp_path: Path) -> None:
    config = planned([picture((3000, 4000))] * 3, tmp_path, memory_bytes=memory_bytes)
    assert 0.5 * memory_bytes < training_bytes(config, CPU) <= memory_bytes
    assert inference_bytes(config, (3000, 4000), CPU) <= memory_bytes
    assert config.patch_size < (512, 512)
    assert "shrunk until a step takes" in (tmp_path / "planned.yaml").read_text()


def test_wider_networks_on_cuda(tmp_path: Path) -> None:
    config = planned([volume()] * 3, tmp_path, device=torch.device("cuda"))
    assert isinstance(config.model, UNetSection)
    assert config.model.features[0] == 32


def test_too_small_a_budget_is_refused_with_the_smallest_that_fits(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no network for these images fits into 1 MB; the smallest takes") as caught:
        planned([picture()] * 3, tmp_path, memory_bytes=10**6)
    enough = re.search(r"give --memory (\w+) or more", str(caught.value))
    assert enough
    for method in ("unet", "sliding_window"):
        planned([picture((70, 70))] * 3, tmp_path, memory_bytes=parse_memory(enough[1]), method=method)


def test_colour_images_are_normalised_by_range(tmp_path: Path) -> None:
    config = planned([picture()], tmp_path)
    assert (config.normalise.method, config.normalise.lower, config.normalise.upper) == ("range", 0, 255)
    assert config.data.channels == ("red", "green", "blue")


def test_other_images_are_normalised_by_zscore(tmp_path: Path) -> None:
    assert planned([picture(channels=1)], tmp_path).normalise.method == "zscore"
    assert planned([volume()], tmp_path).normalise.method == "zscore"


def test_ct_is_normalised_by_the_foreground(tmp_path: Path) -> None:
    other = replace(volume(), foreground=(intensities(-120, 320, 110),), label_counts={0: 1, 1: 300})
    section = planned([volume(), other], tmp_path, channels=("CT",)).normalise
    assert (section.method, section.lower, section.upper, section.mean) == ("ct", -110, 310, 105)
    assert section.deviation == pytest.approx((40**2 + 75) ** 0.5, rel=1e-5)  # 3/4 of 5**2 + 1/4 of 15**2


def test_classes_are_named_or_numbered(tmp_path: Path) -> None:
    facts = [replace(volume(), label_counts={0: 5, 1: 5, 3: 5})]
    sections = planned(facts, tmp_path).data.classes
    assert [(section.name, section.value) for section in sections] == [("background", 0), ("class_1", 1), ("class_3", 3)]
    named = planned(facts, tmp_path, classes=("none", "a", "b", "c"))
    assert [section.name for section in named.data.classes] == ["none", "a", "b", "c"]


def test_labels_that_number_objects_are_one_class(tmp_path: Path) -> None:
    config = planned([replace(picture(), label_counts={0: 5, **dict.fromkeys(range(1, 60), 1)})], tmp_path)
    assert config.data.instances
    assert [section.name for section in config.data.classes] == ["background", "object"]


@pytest.mark.parametrize(
    ("facts", "options", "message"),
    [
        ([volume()], {"channels": ("T1", "T2")}, "--channels: 2 names for 1 channels; give one for each"),
        (
            [replace(volume(), label_counts={0: 1, 5: 1})],
            {"classes": ("a", "b", "c")},
            "--classes: 3 names, but the references have labels up to 5; give 6 names, background first",
        ),
    ],
)
def test_names_that_do_not_fit_are_refused(
    facts: list[CaseFacts], options: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        planned(facts, tmp_path, **options)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ([volume(), picture()], "images have 2 and 3 dimensions; give each kind a folder of its own"),
        ([picture(), picture(channels=1)], "images have 1 and 3 channels; give each kind a folder of its own"),
        ([replace(volume(), foreground=())], "no case has a reference with a label above 0; a plan needs some"),
    ],
)
def test_cases_of_different_kinds_are_refused(facts: list[CaseFacts], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        planned(facts, tmp_path)


def test_window_is_three_objects_wide(tmp_path: Path) -> None:
    config = planned([picture()], tmp_path, method="sliding_window")
    assert isinstance(config.model, SlidingWindowSection)
    assert config.model.window == 37  # 3 * (11 + 13) / 2, odd


@pytest.mark.parametrize("dimensions", [2, 3])
def test_convolutions_leave_1_to_3_pixels_and_drop_none(dimensions: int) -> None:
    for window in range(WINDOWS[dimensions][0], 100, 2):
        size = window
        for convolution in window_convolutions(window, dimensions):
            assert (size - convolution["kernel"] + 1) % 2 == 0
            size = (size - convolution["kernel"] + 1) // 2
        assert 1 <= size <= 3


@pytest.mark.parametrize(
    ("text", "size"), [("8GB", 8 * 10**9), ("8GiB", 2**33), ("500MB", 5 * 10**8), (" 7.5 GB ", 75 * 10**8), ("1MiB", 2**20)]
)
def test_sizes_of_memory(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "8", "GB", "-1GB", "0GB", "8 gigs", "1e3MB", "8TB"])
def test_invalid_sizes_of_memory(text: str) -> None:
    with pytest.raises(ConfigError, match="not a size; give a number above 0 with MB, MiB, GB or GiB, for example 8GB"):
        parse_memory(text)


def test_does_not_replace_a_config(tmp_path: Path) -> None:
    write_config("a: 1\n", tmp_path / "new" / "c.yaml")
    with pytest.raises(ConfigError, match=r"c\.yaml: exists, and may have been edited; choose another name or remove it"):
        write_config("a: 2\n", tmp_path / "new" / "c.yaml")
    assert (tmp_path / "new" / "c.yaml").read_text() == "a: 1\n"


def test_test_cases_are_not_used(tmp_path: Path) -> None:
    folder = write_slide_dataset(tmp_path, cases=4, shape=(40, 40)).parent
    table = folder / "cases.csv"
    names = [case.name for case in planning_cases(folder)]
    assert names == [line.split(",")[0] for line in table.read_text().splitlines()[1:] if not line.endswith("test")]
    table.write_text("\n".join(re.sub("(train|val)$", "test", line) for line in table.read_text().splitlines()) + "\n")
    with pytest.raises(DataError, match="no case outside split 'test' has a reference"):
        planning_cases(folder)


@pytest.mark.parametrize("method", ["unet", "sliding_window"])
@pytest.mark.parametrize("facts", [picture(), volume()], ids=["2D", "3D"])
def test_every_line_has_a_comment_and_keys_keep_the_shipped_order(facts: CaseFacts, method: str, tmp_path: Path) -> None:
    planned([facts] * 3, tmp_path, method=method)
    text = (tmp_path / "planned.yaml").read_text()
    keys = [line for line in text.splitlines() if re.match(r"  \w+:", line)]
    assert [line for line in keys if "# " not in line and not line.startswith(("  name:", "  channels:"))] == []
    shipped = Path(f"configs/{'histology' if len(facts.shape) == 2 else 'mri'}_{method}.yaml").read_text()
    assert re.findall(r"^ {0,2}(\w+):", text, re.M) == re.findall(r"^ {0,2}(\w+):", shipped, re.M)


@pytest.mark.parametrize("method", ["unet", "sliding_window"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_plan_trains_unchanged(dimensions: int, method: str, tmp_path: Path) -> None:
    if dimensions == 2:
        data = write_slide_dataset(tmp_path / "data", cases=3, shape=(90, 110)).parent
    else:
        data = write_volume_dataset(tmp_path / "data", cases=3, shape=(24, 30, 28)).parent
    config = tmp_path / "planned.yaml"
    result = overtile("plan", data, "-o", config, "--method", method, "--memory", "300MB", "--name", "mine")
    assert result.returncode == 0, result.stderr
    assert f"train it with: overtile train {config}" in result.stderr
    assert ("data.spacing_um: [1000.0, 1000.0, 1000.0] (1 x 1 x 1 mm, median of" in result.stderr) == (dimensions == 3)
    result = overtile("train", config, f"run.folder={tmp_path}", "trainer.max_steps=2", "trainer.batch_size=2")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "mine" / "bundle" / "manifest.json").exists()


def test_the_time_of_planning_is_told_apart_from_the_minutes(tmp_path: Path) -> None:
    data = write_slide_dataset(tmp_path / "data", cases=3, shape=(90, 110)).parent
    words = (data, "-o", tmp_path / "plan.yaml", "--memory", "300MB", "--minutes", "0.1")
    result = overtile("plan", *words)
    assert result.returncode == 0, result.stderr
    message = r"Planning took [\d.]+ (s|min), which doesn't count: the 0\.1 minutes are the time from the start of overtile"
    assert re.search(message, result.stderr)


def overtile(*words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "overtile", *map(str, words)]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=240, check=False)


def test_numbered_objects_are_separated(tmp_path: Path) -> None:
    numbered = replace(picture(), label_counts={0: 900, **dict.fromkeys(range(1, 40), 30)}, object_px=(24.0, 16.0))
    config = planned([numbered] * 3, tmp_path)
    assert config.data.instances
    assert config.loss.border_weight == 10
    assert (config.inference.objects, config.inference.object_sigma_px) == ("watershed", 5.0)
    assert config.inference.smallest_object_px == 30
    window = planned([numbered] * 3, tmp_path, method="sliding_window")
    assert (window.loss.border_weight, window.inference.objects) == (0, "watershed")
    assert planned([picture()] * 3, tmp_path).inference.objects == "components"


def test_clean_up_hardly_changes_the_references(tmp_path: Path) -> None:
    areas = dict(enumerate(range(41, 241), start=1))
    numbered = replace(picture(), label_counts={0: 900, **areas}, object_px=(24.0, 16.0), opening_shares=(0.999, 0.995, 0.9))
    clean_up = planned([numbered] * 3, tmp_path).inference
    assert (clean_up.smallest_object_px, clean_up.largest_hole_px, clean_up.opening_radius_px) == (42, 42, 2)
    text = (tmp_path / "planned.yaml").read_text()
    assert "# 1 in 100 of the references' objects is smaller:" in text
    assert "# no hole in the references; smaller ones than the smallest object are filled:" in text
    assert "# the largest that keeps 99% of the references' foreground:" in text
    porous = replace(numbered, hole_px=9.0, opening_shares=(0.9, 0.8, 0.7))
    clean_up = planned([numbered, porous, porous], tmp_path).inference
    assert (clean_up.largest_hole_px, clean_up.opening_radius_px) == (8, 0)
    text = (tmp_path / "planned.yaml").read_text()
    assert "# holes in the references have 9 px and more:" in text
    assert "# no opening keeps 99% of the references' foreground:" in text


def test_clean_up_is_chosen_at_the_target_spacing(tmp_path: Path) -> None:
    fine, coarse = (replace(picture(), spacing_um=(step, step)) for step in (0.25, 0.5))
    numbered = {
        "label_counts": {0: 900, **dict.fromkeys(range(1, 40), 400)},
        "hole_px": 41.0,
        "opening_shares": (1.0, 1.0, 1.0),
    }
    config = planned([replace(fine, **numbered), *[replace(coarse, **numbered)] * 2], tmp_path)
    assert config.data.spacing_um == (0.5, 0.5)
    assert (config.inference.smallest_object_px, config.inference.largest_hole_px) == (100, 9)
    assert config.inference.opening_radius_px == 2


def test_short_runs_augment_less(tmp_path: Path) -> None:
    timed, untimed = (planned([picture((200, 220))] * 20, tmp_path, minutes=minutes) for minutes in (0.2, None))
    assert (timed.augment.probability, untimed.augment.probability) == (0.3, 0.5)
    assert timed.patch_size[0] == timed.patch_size[1]
    assert (timed.augment.quarter_turns, timed.augment.rotation_degrees) == (True, 20)
    assert planned([volume((16, 20, 18))] * 20, tmp_path, minutes=0.2).augment.probability == 0.5


def test_minutes_set_network_and_schedule(tmp_path: Path) -> None:
    short = planned([volume((16, 20, 18))] * 20, tmp_path, minutes=0.2)
    long = planned([volume((16, 20, 18))] * 20, tmp_path, minutes=600.0)
    assert isinstance(short.model, UNetSection)
    assert isinstance(long.model, UNetSection)
    assert (short.model.features[0], long.model.features[0]) == (8, 32)
    assert (short.trainer.max_minutes, long.trainer.max_minutes) == (0.2, 600)
    assert short.trainer.batch_size == long.trainer.batch_size == 2
    steps = long.trainer.max_steps / 2
    assert steps >= 1000 > short.trainer.max_steps / 2
    assert long.optimizer.ema_decay == pytest.approx(min(1 - 20 / steps, 0.999), abs=1e-4)
    assert long.trainer.validate_every_steps == pytest.approx(steps / 8, abs=1)
    assert re.search(
        r"# about \d+ steps, as measured on this machine:\n  max_minutes: 600", (tmp_path / "planned.yaml").read_text()
    )
