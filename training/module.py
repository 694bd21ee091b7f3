"""The Lightning module: thin, knows neither files nor architecture."""

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
from training.data.training_patch import TrainingPatch
from training.image_label_training import label_loss
from training.objective.encodings import IGNORED
from training.objective.levels import crop_reference
from training.objective.losses import make_loss
from training.objective.scoring import make_score
from training.optimization.optimizers import make_optimizer

PATCH_DICE = ("softmax", "sigmoid")  # heads whose outputs say at a glance what is foreground


class SegmentationModule(lightning.LightningModule):
    """Trains a predictor's network on patches and validates it on whole images, the way it will be used.

    Args:
        predictor: of either method; its network is what is trained.
        config: the run's.
        class_prior: each class's share of the training pixels, for balanced weights.
    """

    def __init__(self, predictor: Predictor, config: Config, class_prior: Sequence[float] | None = None) -> None:
        super().__init__()
        self.predictor = predictor
        self.network = predictor.network
        self.config = config
        self.outputs = torch.compile(self.network.outputs) if config.trainer.compile else self.network.outputs
        self.loss = make_loss(config, class_prior)
        self.score = make_score(config).name
        self.band_listeners: list[Callable[[str, Band], None]] = []  # get each validation case's bands, with its name

    def training_step(self, batch: TrainingPatch, _: int) -> Tensor:
        """The loss of a batch of patches."""
        loss, dice = self._step(batch)
        self.log("loss", loss, prog_bar=True)
        if dice is not None:
            self.log("patch_dice", dice, prog_bar=True)
        return loss

    def validation_step(self, case: LabelledImage, _: int) -> None:
        """The score of a whole image, through the inference path and in its precision."""
        score = make_score(self.config)
        with torch.autocast(self.device.type, enabled=False):
            for band in bands(plan_image(case.image, self.predictor)):  # so that a slide takes no memory of its size
                for listen in self.band_listeners:
                    listen(case.name, band)
                rows = slice(band.start, band.start + band.logits.shape[1])
                region = (rows, *(slice(0, size) for size in case.image.shape[1:]))
                score.add(band.logits, case.reference.read(region))
        value = score.value()
        counts, size = math.isfinite(value), self.trainer.world_size  # where not, the case says nothing about the network
        if counts or size > 1:  # of several processes each has its part in the mean over cases, be it nothing
            weight = size * counts  # Lightning rounds the mean of the processes' weights down to a whole number
            self.log(self.score, value if counts else 0.0, batch_size=weight, prog_bar=True, sync_dist=size > 1)

    def configure_optimizers(self) -> Optimizer:
        """Its rates are `training.optimization.schedule`'s."""
        return make_optimizer(self.network, self.config)

    def _step(self, batch: TrainingPatch) -> tuple[Tensor, Tensor | None]:
        """Loss, and for heads of classes the Dice of a batch."""
        outputs = self.outputs(batch.image)
        logits, loss = outputs.logits, self.loss(outputs.logits, batch.reference, batch.weights)
        if outputs.label is not None:
            of_label = label_loss(outputs.label, batch.label)
            self.log("label_loss", of_label)
            loss = loss + self.config.image_label.weight * of_label
        if self.config.head.kind not in PATCH_DICE:
            return loss, None
        reference = batch.reference
        if reference.ndim > 1:
            reference = crop_reference(reference, logits[0])
        return loss, foreground_dice(logits[0].detach(), reference)


def foreground_dice(logits: Tensor, reference: Tensor) -> Tensor:
    """Dice of any foreground class against background over a batch, as a quick look while training."""
    counted = reference != IGNORED
    foreground = logits[:, 0] > 0 if logits.shape[1] == 1 else logits[:, 1:].amax(dim=1) > logits[:, 0]
    predicted, true = foreground & counted, (reference > 0) & counted
    both, either = (predicted & true).sum(), predicted.sum() + true.sum()
    return torch.where(either > 0, 2 * both / either.clamp_min(1), torch.ones_like(both, dtype=torch.float32))
