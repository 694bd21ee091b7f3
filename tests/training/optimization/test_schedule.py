"""Learning rates, compared with torch's schedules, and in a training: groups, clock, plateau, frozen encoder."""

from pathlib import Path

import pytest
import torch
from tiny_training import STEPS, TinyModule, fit, tiny_config
from torch.optim import SGD, lr_scheduler

from configs.sections import OptimizerSection
from training.clock import Clock
from training.optimization.schedule import Plateau, RateSchedule, rate_factor

TOTAL = 100


def section_of(schedule: str, warmup_steps: int = 0) -> OptimizerSection:
    return OptimizerSection.model_validate({"schedule": schedule, "warmup_steps": warmup_steps})


def rates_of_torch(name: str) -> list[float]:
    optimizer = SGD([torch.zeros(1, requires_grad=True)], 1.0)
    schedule = {
        "poly": lambda: lr_scheduler.PolynomialLR(optimizer, TOTAL, power=0.9),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, TOTAL),
        "one_cycle": lambda: lr_scheduler.OneCycleLR(optimizer, 1.0, TOTAL, cycle_momentum=False),
    }[name]()
    rates = []
    for _ in range(TOTAL):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("name", ["poly", "cosine"])
def test_falls_as_in_torch(name: str) -> None:
    ours = [rate_factor(section_of(name), step / TOTAL, step) for step in range(TOTAL)]
    assert ours == pytest.approx(rates_of_torch(name), abs=1e-9)
    assert rate_factor(section_of(name), 1, TOTAL) == pytest.approx(0, abs=1e-9)


def test_one_cycle_rises_and_falls_as_in_torch() -> None:
    torchs = rates_of_torch("one_cycle")  # its highest is at step 29 of 0 .. 99, its end at step 99
    places = [0.3 * step / 29 if step <= 29 else 0.3 + 0.7 * (step - 29) / 70 for step in range(TOTAL)]
    ours = [rate_factor(section_of("one_cycle"), place, step) for step, place in enumerate(places)]
    assert ours == pytest.approx(torchs, abs=1e-9)
    assert ours[0] == pytest.approx(1 / 25)
    assert max(ours) == ours[29] == pytest.approx(1)
    assert ours[-1] == pytest.approx(4e-6)


def test_warms_up_linearly() -> None:
    section = section_of("constant", warmup_steps=4)
    assert [rate_factor(section, 0.5, step) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_a_plateau_leaves_a_fifth_after_three_validations() -> None:
    plateau, factors = Plateau(), []
    for score in (0.5, 0.6, 0.6, 0.4, 0.6, 0.6, 0.6, 0.6, 0.7, 0.7):
        plateau.update(score)
        factors.append(plateau.factor)
    assert factors == pytest.approx([1, 1, 1, 1, 0.2, 0.2, 0.2, 0.04, 0.04, 0.04])
    assert plateau.waited == 1


def test_each_group_gets_its_rate_before_each_step(tmp_path: Path) -> None:
    config = tiny_config("optimizer.learning_rate=0.5", "warm_start.encoder_rate=0.1", "optimizer.schedule=cosine")
    module, schedule = TinyModule(config), RateSchedule(config, Clock(STEPS, None))
    schedule.scale = 0.5
    fit(module, schedule, folder=tmp_path)
    factors = [0.25 * rate_factor(config.optimizer, step / STEPS, step) for step in range(STEPS)]
    assert module.rates == [pytest.approx([0.1 * factor, factor]) for factor in factors]


def test_rates_stay_for_all_batches_of_a_step(tmp_path: Path) -> None:
    config = tiny_config("optimizer.learning_rate=1", "optimizer.warmup_steps=4", "optimizer.schedule=constant")
    module = TinyModule(config)
    fit(module, RateSchedule(config, Clock(4, None)), folder=tmp_path, max_steps=4, accumulate_grad_batches=2)
    assert [rates[1] for rates in module.rates] == [0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1, 1]


def test_the_rate_falls_by_the_clock_where_that_is_ahead(tmp_path: Path) -> None:
    config, clock = tiny_config("optimizer.schedule=poly"), Clock(STEPS, 1)
    clock.load_state_dict({"seconds": 60.0})  # all of its minute
    module = TinyModule(config)
    fit(module, RateSchedule(config, clock), folder=tmp_path, max_steps=1)
    assert module.rates == [[0, 0]]


def test_validations_lower_the_rate_and_its_state_is_restored(tmp_path: Path) -> None:
    config = tiny_config("optimizer.schedule=plateau", "optimizer.learning_rate=1")
    module, schedule = TinyModule(config), RateSchedule(config, Clock(STEPS, None))
    fit(module, schedule, folder=tmp_path, val_check_interval=1)
    assert [rates[1] for rates in module.rates] == pytest.approx([1, 1, 1, 1, 0.2, 0.2, 0.2, 0.04])
    resumed = RateSchedule(config, Clock(STEPS, None))
    resumed.load_state_dict(schedule.state_dict())
    assert (
        resumed.state_dict() == schedule.state_dict() == {"scale": 1, "factor": pytest.approx(0.04), "best": 0.5, "waited": 1}
    )


@pytest.mark.parametrize("processes", [1, 2])
def test_a_frozen_encoder_stays_and_then_learns(tmp_path: Path, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config("warm_start.frozen_steps=3", "model.norm=batch", "optimizer.weight_decay=0.1")
    module = TinyModule(config)
    before = {name: value.clone() for name, value in module.network.state_dict().items()}
    if processes == 2:  # gradients of the frozen encoder are computed and removed
        monkeypatch.setattr("pytorch_lightning.Trainer.world_size", 2)
    fit(module, RateSchedule(config, Clock(STEPS, None)), folder=tmp_path, max_steps=3)
    after = module.network.state_dict()
    assert all(before[name].equal(after[name]) == name.startswith("encoder.") for name in before)
    assert module.network.encoder[0][0].weight.requires_grad == (processes == 2)
    fit(module, RateSchedule(config, Clock(STEPS, None)), folder=tmp_path, max_steps=4)
    assert not any(before[name].equal(value) for name, value in module.network.state_dict().items())
    assert all(weights.requires_grad for weights in module.network.parameters())
    assert all(part.training for part in module.network.modules())
