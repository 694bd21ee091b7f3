"""nnU-Net's trainer with a number of steps; `nnunet.py` copies this file to where nnU-Net looks for trainers."""

import os

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # type: ignore[import-not-found]  # in its own environment


class nnUNetTrainerSteps(nnUNetTrainer):  # type: ignore[misc]  # named as nnU-Net names its own
    """As many epochs of as many iterations as two variables of the environment say; its rate falls over all of them.

    One batch an epoch is looked at for its progress plot instead of 50: the weights are the last ones either way.
    """

    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict, device: torch.device) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = int(os.environ["EPOCHS"])
        self.num_iterations_per_epoch = int(os.environ["ITERATIONS"])
        self.num_val_iterations_per_epoch = 1
