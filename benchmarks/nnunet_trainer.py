"""nnU-Net's trainer with a given number of steps; `nnunet.py` copies this file to nnU-Net's folder of trainers."""

import os

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # type: ignore[import-not-found]  # in its own environment


class nnUNetTrainerSteps(nnUNetTrainer):  # type: ignore[misc]  # named as nnU-Net names its own
    """Trainer with the numbers of epochs and iterations that EPOCHS and ITERATIONS in the environment say.

    It validates on one batch per epoch instead of 50, which changes its plot but not its weights.
    """

    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict, device: torch.device) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = int(os.environ["EPOCHS"])
        self.num_iterations_per_epoch = int(os.environ["ITERATIONS"])
        self.num_val_iterations_per_epoch = 1
