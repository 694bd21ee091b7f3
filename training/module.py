"""The Lightning module: thin, knows neither files nor architecture."""

import numpy as np
import pytorch_lightning as lightning
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from configs.schema import Config
from evaluation.metrics import confusion, overlaps_of
from inference.predictor import Predictor
from inference.segment import bands
from training.errors import NumericError
from training.losses import IGNORED, fit_reference, make_loss
from training.open_cases import LabelledImage

DICE = "dice"  # of validation, the mean over cases; what the best checkpoint and early stopping go by


class SegmentationModule(lightning.LightningModule):
    """Trains a predictor's network on patches and validates it on whole images, the way it will be used.

    Args:
        predictor: of either method; its network is what is trained.
        config: the run's.
    """

    def __init__(self, predictor: Predictor, config: Config) -> None:
        super().__init__()
        self.predictor = predictor
        self.network = predictor.network
        self.config = config
        self.loss = make_loss(config)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """The loss of a batch of patches."""
        loss, dice = self._step(batch)
        if not torch.isfinite(loss):
            raise NumericError(
                f"loss is {loss.item()} at step {self.global_step}; lower optimizer.learning_rate or check the images"
            )
        self.log_dict({"loss": loss, "patch_dice": dice}, prog_bar=True)
        return loss

    def validation_step(self, case: LabelledImage, _: int) -> None:
        """Dice of a whole image, through the inference path."""
        classes = len(self.config.data.classes)
        counts = np.zeros((classes, classes), np.int64)
        for band in bands(case.image, self.predictor):  # so that a slide takes no memory of its size
            mask = self.predictor.head.mask(band.logits)
            rows = slice(band.start, band.start + len(mask))
            reference = case.reference.read((rows, *(slice(0, size) for size in mask.shape[1:])))[0]
            counts += confusion(mask, reference, classes)
        dice = overlaps_of(counts).macro_dice
        if np.isfinite(dice):  # neither holds any foreground: says nothing about the network
            self.log(DICE, dice, batch_size=1, on_epoch=True, prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with nnU-Net's polynomial decay over the whole run."""
        section = self.config.optimizer
        optimizer = torch.optim.AdamW(self.network.parameters(), section.learning_rate, weight_decay=section.weight_decay)
        schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, self.config.trainer.max_steps, power=0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _step(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Loss and Dice of a batch."""
        images, reference = batch
        logits = self.network.outputs(images).logits
        loss = self.loss(logits, reference, images.new_empty(len(images), 0))
        if reference.ndim > 1:
            reference = fit_reference(reference, logits[0])
        return loss, foreground_dice(logits[0].detach(), reference)


def foreground_dice(logits: Tensor, reference: Tensor) -> Tensor:
    """Dice of any foreground class against background over a batch, as a quick look while training."""
    counted = reference != IGNORED
    predicted, true = (logits.argmax(dim=1) > 0) & counted, (reference > 0) & counted
    both, either = (predicted & true).sum(), predicted.sum() + true.sum()
    return torch.where(either > 0, 2 * both / either.clamp_min(1), torch.ones_like(both, dtype=torch.float32))
