"""The running mean of the weights: its values, its use in validations, and that a run resumes with it bit by bit."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch
from tiny_training import STEPS, TinyModule, fit, tiny_config

from training.clock import Clock
from training.optimization.averaging import Averaging
from training.optimization.schedule import RateSchedule

Weights = dict[str, torch.Tensor]


class Recorder(lightning.Callback):
    """Records the weights after each step and in each validation, and saves a checkpoint at a given one."""

    def __init__(self, save: tuple[str, int] = ("", 0), path: Path = Path()) -> None:
        self.stepped: list[Weights] = []
        self.validated: list[Weights] = []
        self.save = save
        self.path = path

    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: Any) -> None:
        self.stepped.append(weights_of(module))
        self.save_at("step", trainer)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.validated.append(weights_of(module))
        self.save_at("validation", trainer)

    def save_at(self, moment: str, trainer: lightning.Trainer) -> None:
        if (moment, trainer.global_step) == self.save:
            trainer.save_checkpoint(self.path)


def weights_of(module: Any) -> Weights:
    return {name: value.clone() for name, value in module.network.state_dict().items()}


def equal(first: Weights, second: Weights) -> bool:
    return all(first[name].equal(second[name]) for name in first.keys() | second.keys())


def test_the_mean_is_validated_and_training_continues_without_it(tmp_path: Path) -> None:
    config = tiny_config("optimizer.ema_decay=0.15")
    module, recorder = TinyModule(config), Recorder()
    mean = weights_of(module)
    fit(module, Averaging(config), recorder, folder=tmp_path, val_check_interval=1, max_steps=3)
    for decay, stepped, validated in zip((0.1, 0.15, 0.15), recorder.stepped, recorder.validated, strict=True):
        for name, value in stepped.items():
            if value.is_floating_point():
                mean[name] = mean[name] * decay + value * (1 - decay)
                torch.testing.assert_close(validated[name], mean[name])
            else:
                assert validated[name] == value  # batches that a norm saw
    plain, plain_recorder = TinyModule(config), Recorder()
    fit(plain, plain_recorder, folder=tmp_path, val_check_interval=1, max_steps=3)
    assert all(equal(ours, without) for ours, without in zip(recorder.stepped, plain_recorder.stepped, strict=True))


def test_without_a_decay_there_is_no_mean(tmp_path: Path) -> None:
    config = tiny_config("optimizer.ema_decay=0")
    averaging, recorder = Averaging(config), Recorder()
    module = TinyModule(config)
    fit(module, averaging, recorder, folder=tmp_path, val_check_interval=4)
    assert averaging.state_dict() == {"mean": {}, "updates": 0, "swapped": False}
    assert equal(recorder.validated[-1], weights_of(module))


@pytest.mark.parametrize("save", [("step", 3), ("validation", 4)])
def test_resumes_bit_by_bit(tmp_path: Path, save: tuple[str, int]) -> None:
    config = tiny_config("optimizer.ema_decay=0.9", "optimizer.schedule=one_cycle", "warm_start.frozen_steps=2")

    def run(recorder: Recorder, **options: Any) -> tuple[TinyModule, Recorder]:
        module = TinyModule(config)
        callbacks = (RateSchedule(config, Clock(STEPS, None)), Averaging(config), recorder)
        fit(module, *callbacks, folder=tmp_path, batches=1, check_val_every_n_epoch=2, **options)
        return module, recorder

    whole, whole_records = run(Recorder(save, tmp_path / "saved.ckpt"))
    resumed, resumed_records = run(Recorder(), checkpoint=tmp_path / "saved.ckpt")
    assert resumed.rates == whole.rates[save[1] :]
    assert equal(weights_of(resumed), weights_of(whole))
    assert equal(resumed_records.validated[-1], whole_records.validated[-1])


def test_updates_per_step_not_per_batch(tmp_path: Path) -> None:
    config = tiny_config("optimizer.ema_decay=0.9")
    averaging = Averaging(config)
    fit(TinyModule(config), averaging, folder=tmp_path, max_steps=4, accumulate_grad_batches=2)
    assert averaging.updates == 4
