"""The Lightning module: training steps on patches, validation on whole images."""

import math
from collections.abc import Callable, Sequence

import pytorch_lightning as lightning
import torch
from torch import Tensor
from torch.optim import Optimizer

from configs.schema import Config
from inference.plan import plan_image
from inference.predictors.predictor import Predictor
from inference.segment import bands
from inference.tiling.stitch import Band
from training.data.open_cases import LabelledImage
from training.data.patch_dataset import TrainingPatch
from training.image_label_training import label_loss
from training.objective.encodings import IGNORED
from training.objective.levels import crop_reference
from training.objective.losses import make_loss
from training.objective.scoring import make_score
from training.optimization.optimizers import make_optimizer

PATCH_DICE_HEADS = ("softmax", "sigmoid")  # whose logits show directly what is foreground


class SegmentationModule(lightning.LightningModule):
    """Trains a predictor's network on patches, and validates it on whole images through the inference path.

    Args:
        predictor: of either method; its network is the one that is trained.
        config: the run's.
        class_prior: each class's fraction of the training pixels, for balanced weights.
    """

    def __init__(self, predictor: Predictor, config: Config, class_prior: Sequence[float] | None = None) -> None:
        super().__init__()
        self.predictor = predictor
        self.network = predictor.network
        self.config = config
        self.outputs = torch.compile(self.network.outputs) if config.trainer.compile else self.network.outputs
        self.loss = make_loss(config, class_prior)
        self.score = make_score(config).name
        self.band_listeners: list[
            Callable[[str, Band], None]
        ] = []  # called with a validation case's name and each of its bands

    def training_step(self, batch: TrainingPatch, _: int) -> Tensor:
        """Return the loss of a batch of patches."""
        loss, dice = self._step(batch)
        self.log("loss", loss, prog_bar=True)
        if dice is not None:
            self.log("patch_dice", dice, prog_bar=True)
        return loss

    def validation_step(self, case: LabelledImage, _: int) -> None:
        """Log the score of a whole image, predicted as in inference and in its precision."""
        score = make_score(self.config)
        with torch.autocast(self.device.type, enabled=False):
            for band in bands(plan_image(case.image, self.predictor)):  # band by band, since a slide does not fit into memory
                for listen in self.band_listeners:
                    listen(case.name, band)
                rows = slice(band.start, band.start + band.logits.shape[1])
                region = (rows, *(slice(0, size) for size in case.image.shape[1:]))
                score.add(band.logits, case.reference.read(region))
        value = score.value()
        size = self.trainer.world_size
        if not math.isfinite(value):  # the case has no score, for example no foreground
            if size > 1:  # each process takes part in the mean over cases
                self.log(self.score, 0.0, batch_size=0, prog_bar=True, sync_dist=True)
            return
        # Lightning rounds the mean of the processes' weights down to an integer, so each weighs `size`
        self.log(self.score, value, batch_size=size, prog_bar=True, sync_dist=size > 1)

    def configure_optimizers(self) -> Optimizer:
        """Return the optimizer; `RateSchedule` sets its learning rates."""
        return make_optimizer(self.network, self.config)

    def _step(self, batch: TrainingPatch) -> tuple[Tensor, Tensor | None]:
        """Return the loss of a batch, and its Dice for heads in PATCH_DICE_HEADS."""
        outputs = self.outputs(batch.image)
        logits, loss = outputs.logits, self.loss(outputs.logits, batch.reference, batch.weights)
        if outputs.label is not None:
            image_loss = label_loss(outputs.label, batch.label)
            self.log("label_loss", image_loss)
            loss = loss + self.config.image_label.weight * image_loss
        if self.config.head.kind not in PATCH_DICE_HEADS:
            return loss, None
        reference = batch.reference
        if reference.ndim > 1:
            reference = crop_reference(reference, logits[0])
        return loss, foreground_dice(logits[0].detach(), reference)


def foreground_dice(logits: Tensor, reference: Tensor) -> Tensor:
    """Return the Dice of any foreground class against background over a batch, a quick estimate during training."""
    valid = reference != IGNORED
    foreground = logits[:, 0] > 0 if logits.shape[1] == 1 else logits[:, 1:].amax(dim=1) > logits[:, 0]
    predicted, true = foreground & valid, (reference > 0) & valid
    overlap, total = (predicted & true).sum(), predicted.sum() + true.sum()
    return torch.where(total > 0, 2 * overlap / total.clamp_min(1), torch.ones_like(overlap, dtype=torch.float32))
