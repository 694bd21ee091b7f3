"""Sanity checks of correct runs, of both methods and in 2D and 3D; the page, the command line, and expected losses."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from check_subjects import UNET, check, unet_config, window_words
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from configs import schema
from configs.schema import Config
from overtile import app
from tests.phantom import write_slide_dataset, write_volume_dataset
from training.objective.encodings import IGNORED
from training.objective.losses import make_loss
from training.sanity_checks.alignment import measure_alignment
from training.sanity_checks.checks import CHECKS
from training.sanity_checks.expected_loss import expected_loss
from training.sanity_checks.subject import Subject

EVERY = tuple(range(1, len(CHECKS) + 1))
C3 = "data.classes=[{name: a, colour: '#000000'},{name: b, colour: '#000001'},{name: c, colour: '#000002'}]"
C1 = "data.classes=[{name: a, colour: '#000000'}]"
LOSSES = [
    (C3, "head.kind=softmax", "loss.name=dice_cross_entropy", "loss.class_weights=[1,2,5]"),
    (C3, "head.kind=softmax", "loss.name=cross_entropy", "loss.class_weights=balanced"),
    (C3, "head.kind=softmax", "loss.name=boundary"),
    (C3, "head.kind=softmax", "loss.name=focal"),
    ("head.kind=sigmoid", "loss.name=tversky"),
    ("head.kind=sigmoid", "loss.name=dice_cross_entropy", "loss.class_weights=[1,3]"),
    (C3, "head.kind=multi_label", "loss.name=dice_cross_entropy", "loss.class_weights=[1,2,5]"),
    (C3, "head.kind=ordinal", "head.encoding=one_hot", "loss.name=dice"),
    (C3, "head.kind=ordinal", "head.encoding=cumulative", "loss.name=cross_entropy"),
    (C3, "head.kind=ordinal", "head.encoding=soft_label"),
    (C1, "head.kind=regression"),
    (C1, "head.kind=unit_regression"),
]


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide_dataset(tmp_path_factory.mktemp("slides"), cases=6, shape=(96, 96)).parent


def overtile(*words: object) -> Result:
    return CliRunner().invoke(app, ["check", *map(str, words)])


def test_a_correct_run_passes_and_its_page_shows_why(slides: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages/checks.html"
    result = overtile("configs/histology_sliding_window.yaml", *window_words(slides, tmp_path / "runs"), "-o", page)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.split(":")[0] for line in lines[: len(EVERY)]] == [f"{number:2d} pass" for number in EVERY]
    assert all(" (limit: " in line for line in lines[: len(EVERY)])
    text = page.read_text()
    assert "14 of 14 checks passed." in text
    sections = text.split('<section class="check"')[1:]
    assert len(sections) == len(EVERY)
    assert all("data:image/png;base64," in section for section in sections)
    assert "http:" not in text
    assert "https:" not in text
    assert "<script" not in text
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_correct_u_net_passes_in_2d(slides: Path, tmp_path: Path) -> None:
    outcomes = check(Subject(unet_config(slides, tmp_path), tmp_path / "splits.csv"), *EVERY)
    assert [outcome.state for outcome in outcomes.values()] == ["pass"] * len(EVERY), list(map(str, outcomes.values()))


@pytest.mark.slow
def test_a_correct_u_net_passes_in_3d(tmp_path: Path) -> None:
    data = write_volume_dataset(tmp_path / "volumes", cases=6, shape=(20, 24, 24)).parent
    small = ("model.features=[8,16]", "sampling.patch_size=[16,16,16]", "trainer.batch_size=2")
    config = schema.load(Path("configs/mri_unet.yaml"), [f"data.path={data}", f"run.folder={tmp_path}", *small])
    outcomes = check(Subject(config, tmp_path / "splits.csv"), *EVERY)
    assert [outcome.state for outcome in outcomes.values()] == ["pass"] * len(EVERY), list(map(str, outcomes.values()))


def test_a_u_net_of_several_levels_starts_as_expected_and_leaks_nothing(slides: Path, tmp_path: Path) -> None:
    config = unet_config(slides, tmp_path, "model.features=[4,4,8]", "model.deep_supervision=true", "loss.border_weight=10")
    subject = Subject(config, tmp_path / "splits.csv")
    outcomes = check(subject, 2, 3, 8)
    assert [outcome.state for outcome in outcomes.values()] == ["pass"] * 3, list(map(str, outcomes.values()))
    assert outcomes[8].result is not None
    assert len(outcomes[8].result.pictures) == 2  # patches, and the weights of their pixels


def test_equal_seeds_give_equal_figures(slides: Path, tmp_path: Path) -> None:
    words = ("configs/histology_sliding_window.yaml", *window_words(slides, tmp_path), "--only", "3,14")
    first, second = overtile(*words), overtile(*words)
    assert first.exit_code == 0
    assert first.output == second.output
    assert [line[:2] for line in first.output.splitlines()] == [" 3", "14"]


def test_failed_checks_end_with_3_and_say_what_to_do(slides: Path, tmp_path: Path) -> None:
    words = (
        "configs/histology_sliding_window.yaml",
        *window_words(slides, tmp_path),
        "optimizer.learning_rate=1e-9",
        "model.norm=none",
    )
    page = tmp_path / "page.html"
    result = overtile(*words, "--only", "9", "-o", page)
    assert result.exit_code == 3
    assert " 9 fail: masks of validation images improve during training" in result.output
    assert "what to do: the masks of validation images don't improve" in result.output
    assert "1 of 1 checks failed." in page.read_text()


def test_a_loss_that_is_nan_or_infinite_ends_with_5(slides: Path, tmp_path: Path) -> None:
    words = ("configs/histology_sliding_window.yaml", *window_words(slides, tmp_path), "optimizer.learning_rate=1e30")
    assert overtile(*words, "--only", "4").exit_code == 5


def test_checks_without_time_are_not_run(slides: Path, tmp_path: Path) -> None:
    words = ("configs/histology_sliding_window.yaml", *window_words(slides, tmp_path), "--minutes", "0")
    result = overtile(*words)
    assert result.exit_code == 0
    assert result.output.count("not run: ") == len(EVERY)
    assert "no time left for it; give more --minutes, or fewer checks with --only" in result.output


@pytest.mark.parametrize(
    ("only", "words"), [("3,x", "--only '3,x': not numbers of checks"), ("15", "there is no check 15; the checks are 1 to 14")]
)
def test_unknown_checks_are_refused(only: str, words: str, slides: Path, tmp_path: Path) -> None:
    result = overtile("configs/histology_sliding_window.yaml", *window_words(slides, tmp_path), "--only", only)
    assert result.exit_code == 2
    assert words in result.output


def test_heads_without_masks_have_no_baselines(slides: Path, tmp_path: Path) -> None:
    config = unet_config(slides, tmp_path, C1, "head.kind=regression", "trainer.batch_size=2")
    outcomes = check(Subject(config, tmp_path / "splits.csv"), 1, 3, 5, 8)
    assert [outcome.state for outcome in outcomes.values()] == ["pass", "pass", "not run", "pass"]
    assert (
        outcomes[5].reason == "not applicable: the baselines need masks with one class per pixel, which this head doesn't give"
    )


def loss_config(words: tuple[str, ...]) -> Config:
    return schema.load(Path("configs/histology_unet.yaml"), [*UNET, *words])


@pytest.mark.parametrize("words", LOSSES, ids=lambda words: " ".join(words[-2:]))
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), ignored=st.booleans())
def test_a_loss_of_constant_outputs_is_what_its_definition_says(words: tuple[str, ...], seed: int, ignored: bool) -> None:
    config, random = loss_config(words), np.random.default_rng(seed)
    classes, overlapping = len(config.data.classes), config.head.kind == "multi_label"
    shape = (2, classes - 1, 12, 10) if overlapping else (2, 12, 10)
    if classes == 1:
        reference = random.random(shape).astype(np.float32)
        reference[random.random(shape) < 0.2 * ignored] = np.nan
    else:
        reference = random.integers(2 if overlapping else classes, size=shape)
        reference[random.random(shape) < 0.2 * ignored] = IGNORED
    weighed = "cross_entropy" in " ".join(words) and not overlapping
    weights = random.random((2, 12, 10) if weighed else (2, 0)).astype(np.float32)
    prior = random.dirichlet(np.ones(classes))
    outputs = {"softmax": classes, "one_hot": classes, "multi_label": classes - 1, "cumulative": classes - 1}
    constants = random.normal(size=outputs.get(config.head.name, 1))
    logits = torch.tensor(constants, dtype=torch.float32).view(1, -1, 1, 1).expand(2, -1, 12, 10)
    loss = make_loss(config, prior.tolist())([logits], torch.from_numpy(reference), torch.from_numpy(weights))
    assert expected_loss(config, constants.tolist(), reference, weights, prior.tolist()) == pytest.approx(float(loss), abs=2e-4)


def test_expected_losses_by_hand() -> None:
    reference, none = np.arange(12).reshape(1, 3, 4) % 3, np.empty((1, 0))
    config = loss_config((C3, "loss.name=cross_entropy"))
    assert expected_loss(config, [0, 0, 0], reference, none, [1, 1, 1]) == pytest.approx(math.log(3))
    shares = np.array([0.5, 0.25, 0.25])
    halves = np.array([[[0, 0, 1, 2]]])
    assert expected_loss(config, np.log(shares).tolist(), halves, none, [1, 1, 1]) == pytest.approx(
        1.5 * math.log(2)
    )  # entropy


def test_alignment_is_highest_in_the_own_position() -> None:
    random = np.random.default_rng(0)
    labels = [np.kron(random.integers(2, size=(8, 8)), np.ones((8, 8), np.int64)) for _ in range(4)]
    pairs = [(mask + random.normal(scale=0.3, size=mask.shape), mask) for mask in labels]
    alignment = measure_alignment(pairs)
    assert alignment.better is None
    assert alignment.own.mean() > 5 * alignment.best_swap
    assert (
        measure_alignment([(grey, np.roll(mask, 2, axis=0)) for grey, mask in pairs]).better == "shifted by -2 px along axis 0"
    )
