"""nnU-Net's training steps for `training_speed.py`; runs in nnU-Net's environment.

Trainer, data loader, augmentation, loss and optimizer are nnU-Net's. Its plans get our patch, batch and features, and deep
supervision is off.
"""

import json
import sys
from pathlib import Path

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # type: ignore[import-not-found]
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoDA import (  # type: ignore[import-not-found]
    nnUNetTrainerNoDA,
)
from turns import TurnClient


def main(spec: dict) -> None:
    """Train until `TurnClient` ends the process."""
    turns = TurnClient(torch.device(spec["device"]))
    trainer = make_trainer(spec)
    trainer.on_train_start()
    trainer.network.train()
    while True:
        turns.wait()
        trainer.train_step(next(trainer.dataloader_train))


def make_trainer(spec: dict) -> nnUNetTrainer:
    """Return nnU-Net's trainer with the spec's network, patch and batch."""
    folder = Path(spec["nnunet_preprocessed"])
    plans = json.loads((folder / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    name = "2d" if len(spec["patch"]) == 2 else "3d_fullres"
    configuration, levels = plans["configurations"][name], len(spec["features"])
    configuration |= {"batch_size": spec["batch"], "patch_size": spec["patch"]}
    configuration["architecture"]["arch_kwargs"] |= {
        "n_stages": levels,
        "features_per_stage": spec["features"],
        "kernel_sizes": [[3] * len(spec["patch"])] * levels,
        "strides": [[1 if level == 0 else 2] * len(spec["patch"]) for level in range(levels)],
        "n_conv_per_stage": [2] * levels,
        "n_conv_per_stage_decoder": [2] * (levels - 1),
    }
    dataset = json.loads((folder / "dataset.json").read_text())
    trainer = (nnUNetTrainer if spec["augment"] else nnUNetTrainerNoDA)(plans, name, 0, dataset, torch.device(spec["device"]))
    trainer.enable_deep_supervision = False
    return trainer


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
