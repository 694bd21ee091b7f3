"""Faults that are planted in a run are found by the check that looks for them."""

import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from check_subjects import check, unet_config, window_config, with_part
from PIL import Image
from torch import Tensor, nn

from configs.network_sections import SlidingWindowSection
from configs.schema import Config
from models.architectures import build
from models.layers import Outputs
from models.sliding_window import SlidingWindow
from tests.phantom import write_slide_dataset
from training.objective.losses import Loss, make_loss
from training.sanity_checks.subject import Subject


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide_dataset(tmp_path_factory.mktemp("slides"), cases=6, shape=(96, 96)).parent


@pytest.fixture(scope="module")
def correct(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """Return a correct run, whose data the tests share."""
    folder = tmp_path_factory.mktemp("splits")
    subject = Subject(window_config(slides, folder), folder / "splits.csv")
    assert all([subject.pool, subject.validation_batches, subject.crops])
    return subject


def rewritten(slides: Path, folder: Path, change: Callable[[list[Image.Image]], Sequence[Image.Image]]) -> Path:
    """Return the data set with other references for the images."""
    for name in ("images", "references"):
        (folder / name).mkdir(parents=True)
    (folder / "cases.csv").write_bytes((slides / "cases.csv").read_bytes())
    with (slides / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        os.link(slides / row["image"], folder / row["image"])
    references = [np.asarray(Image.open(slides / row["reference"])).copy() for row in rows]
    changed = change([Image.fromarray(labels) for labels in references])
    for row, reference in zip(rows, changed, strict=True):
        reference.save(folder / row["reference"])
    return folder


def test_shuffled_references(slides: Path, tmp_path: Path) -> None:
    data = rewritten(slides, tmp_path / "data", lambda references: [*references[1:], references[0]])
    outcomes = check(Subject(window_config(data, tmp_path), tmp_path / "splits.csv"), 1, 5, 13)
    assert {number: outcome.state for number, outcome in outcomes.items()} == {1: "fail", 5: "fail", 13: "fail"}
    assert "they may be shuffled already; see the pictures of check 1" in str(outcomes[13])


@pytest.mark.parametrize(
    ("method", "words"),
    [(Image.Transpose.FLIP_LEFT_RIGHT, "mirrored along axis 1"), (Image.Transpose.FLIP_TOP_BOTTOM, "mirrored along axis 0")],
)
def test_mirrored_references(method: Image.Transpose, words: str, slides: Path, tmp_path: Path) -> None:
    data = rewritten(slides, tmp_path / "data", lambda references: [each.transpose(method) for each in references])
    outcome = check(Subject(window_config(data, tmp_path), tmp_path / "splits.csv"), 1)[1]
    assert outcome.state == "fail"
    assert outcome.remedy == f"references fit their images better {words}: look at the pictures and at how they were exported"


def test_shifted_references(slides: Path, tmp_path: Path) -> None:
    def moved(references: list[Image.Image]) -> list[Image.Image]:
        return [each.transform(each.size, Image.Transform.AFFINE, (1, 0, -4, 0, 1, 0)) for each in references]

    data = rewritten(slides, tmp_path / "data", moved)  # 4 pixels to the right
    outcome = check(Subject(window_config(data, tmp_path), tmp_path / "splits.csv"), 1)[1]
    assert outcome.state == "fail"
    assert "better shifted by -4 px along axis 1" in outcome.remedy or "shifted by +4 px along axis 1" in outcome.remedy


def test_unusable_data_stops_at_once(slides: Path, tmp_path: Path) -> None:
    def odd(references: list[Image.Image]) -> list[Image.Image]:
        return [Image.fromarray(np.full((96, 96), 7, np.uint8)), *references[1:]]

    data = rewritten(slides, tmp_path / "data", odd)
    outcomes = check(Subject(window_config(data, tmp_path), tmp_path / "splits.csv"), 1, 2)
    assert outcomes[1].state == "fail"
    assert "reference holds 7" in outcomes[1].reason
    assert (outcomes[2].state, outcomes[2].reason) == ("not run", "the data can't be used")


def test_zeroed_input(slides: Path, tmp_path: Path) -> None:
    config = window_config(slides, tmp_path, "normalise.lower=0", "normalise.upper=1e10")
    outcomes = check(Subject(config, tmp_path / "splits.csv"), 4, 8)
    assert outcomes[4].state == "fail"
    assert "learns nothing from its images: check normalise" in outcomes[4].remedy
    assert "standard deviation of values is" in str(outcomes[8])


class Leaking(SlidingWindow):
    """Adds a share of the batch's mean to each item."""

    def outputs(self, windows: Tensor) -> Outputs:
        outputs = super().outputs(windows)
        return Outputs(tuple(level + 0.1 * level.mean(dim=0, keepdim=True) for level in outputs.logits), outputs.bottom)

    def dense(self, images: Tensor) -> Tensor:
        logits = super().dense(images)
        return logits + 0.1 * logits.mean(dim=0, keepdim=True)


class Forgetting(SlidingWindow):
    """Has a trained parameter that isn't in its state."""

    def __init__(self, *words: Any) -> None:
        super().__init__(*words)
        self.extra = [nn.Parameter(torch.tensor(1.0))]

    def named_parameters(self, *words: Any, **options: Any) -> Any:
        yield from super().named_parameters(*words, **options)
        yield "extra", self.extra[0]

    def dense(self, images: Tensor) -> Tensor:
        return super().dense(images) * self.extra[0]

    def outputs(self, windows: Tensor) -> Outputs:
        outputs = super().outputs(windows)
        return Outputs(tuple(level * self.extra[0] for level in outputs.logits), outputs.bottom)


def of_class(kind: type[SlidingWindow]) -> Callable[[Config], SlidingWindow]:
    def build_network(config: Config) -> SlidingWindow:
        assert isinstance(config.model, SlidingWindowSection)
        return kind(config.data.dimensions, len(config.data.channels), len(config.data.classes), config.model)

    return build_network


def test_leaking_batch(correct: Subject) -> None:
    outcomes = check(with_part(correct, build=of_class(Leaking)), 10, 11)
    assert outcomes[10].state == outcomes[11].state == "fail"
    assert "mixes the items of a batch" in outcomes[10].remedy


def test_norm_left_in_training_mode(slides: Path, tmp_path: Path) -> None:
    def stuck(config: Config) -> Any:
        network = build(config)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats, module.running_mean, module.running_var = False, None, None
        return network

    outcome = check(Subject(unet_config(slides, tmp_path), tmp_path / "splits.csv", build=stuck), 10)[10]
    assert outcome.state == "fail"


@pytest.mark.parametrize("factor", [10, 0.5, 32])  # 32: the batch's sum
def test_mis_scaled_loss(factor: float, correct: Subject) -> None:
    def scaled(config: Config, prior: Sequence[float]) -> Loss:
        loss = make_loss(config, prior)
        return lambda *batch: factor * loss(*batch)

    outcome = check(with_part(correct, make_loss=scaled), 3)[3]
    assert outcome.state == "fail"
    assert "look for a factor, a sum instead of a mean, or weights of the wrong classes" in outcome.remedy


def test_weights_of_the_wrong_classes(correct: Subject) -> None:
    def swapped(config: Config, prior: Sequence[float]) -> Loss:
        weights = config.loss.model_copy(update={"class_weights": (1.0, 3.0)})
        return make_loss(config.model_copy(update={"loss": weights}), prior)

    weighted = correct.config.model_copy(update={"loss": correct.config.loss.model_copy(update={"class_weights": (3.0, 1.0)})})
    assert check(with_part(correct, config=weighted), 3)[3].state == "pass"
    assert check(with_part(correct, config=weighted, make_loss=swapped), 3)[3].state == "fail"


def test_random_numbers_without_a_seed(correct: Subject) -> None:
    random = np.random.default_rng()

    def noisy(config: Config, prior: Sequence[float]) -> Loss:
        loss = make_loss(config, prior)
        return lambda *batch: loss(*batch) * (1 + 1e-4 * float(random.random()))

    assert check(with_part(correct, make_loss=noisy), 2)[2].state == "fail"


def test_a_rate_that_learns_nothing(slides: Path, tmp_path: Path) -> None:
    config = window_config(slides, tmp_path, "optimizer.learning_rate=1e-9", "model.norm=none")
    outcome = check(Subject(config, tmp_path / "splits.csv"), 6)[6]
    assert outcome.state == "fail"
    assert "try another optimizer.learning_rate (overtile find-rate)" in outcome.remedy


def test_too_high_a_rate_gives_a_numeric_error(slides: Path, tmp_path: Path) -> None:
    config = window_config(slides, tmp_path, "optimizer.learning_rate=1e30")
    outcome = check(Subject(config, tmp_path / "splits.csv"), 13)[13]
    assert outcome.is_numeric_error
    assert "steps of a short training; lower optimizer.learning_rate or check the images" in outcome.reason


def test_width_that_does_not_help(correct: Subject) -> None:
    def zeroed_where_wide(config: Config) -> Any:
        network = build(config)
        if config.model != correct.config.model:
            for weights in network.hidden.parameters():  # so that only the head is trained
                nn.init.zeros_(weights)
        return network

    assert check(with_part(correct, build=zeroed_where_wide), 7)[7].state == "fail"


def test_broken_tensors(correct: Subject) -> None:
    first, *rest = correct.pool
    for change, message in (
        ({"image": first.image * float("nan")}, "an image has a value that is NaN or infinite"),
        ({"image": first.image * 1e6}, "values reach"),
        ({"reference": torch.full((32,), 7)}, "a reference has label 7, but labels are 0 to 1"),
        ({"weights": torch.full((32,), -1.0)}, "a weight is NaN, infinite or below 0"),
    ):
        broken = with_part(correct)
        broken.pool = [first._replace(**change), *rest]
        outcome = check(broken, 8)[8]
        assert outcome.state == "fail"
        assert message in str(outcome)
    empty = with_part(correct)
    empty.pool = [batch._replace(reference=torch.zeros_like(batch.reference)) for batch in correct.pool]
    assert "no patch has any foreground" in str(check(empty, 8)[8])


def test_weights_that_are_not_saved(correct: Subject) -> None:
    outcome = check(with_part(correct, build=of_class(Forgetting)), 12)[12]
    assert outcome.state == "fail"
    assert "the bundle isn't the network that was trained" in outcome.remedy


def test_filters_of_noise(correct: Subject) -> None:
    noise = with_part(correct)
    generator = torch.Generator().manual_seed(0)
    noise.pool = [batch._replace(image=torch.randn(batch.image.shape, generator=generator)) for batch in correct.pool]
    assert check(noise, 14)[14].state == "fail"
