"""A training of seconds for the tests of what changes the weights: a network of hundreds of weights, on noise."""

import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from configs import schema
from configs.schema import Config
from models.architectures import build
from training.optimization.optimizers import make_optimizer

STEPS = 8


class TinyModule(lightning.LightningModule):
    """Learns images (1, 8, 8) of noise by heart, and logs the same score whatever it sees."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = config
        self.network = build(config)
        self.rates: list[list[float]] = []  # by batch, by group

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        optimizer = self.optimizers()
        self.rates.append([group["lr"] for group in optimizer.param_groups])  # type: ignore[union-attr]
        return (self.network(batch[0])[:, :1] - batch[0]).square().mean()

    def validation_step(self, _: list[Tensor], __: int) -> None:
        self.log("dice", 0.5)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return make_optimizer(self.network, self.config)


def tiny_config(*overrides: str) -> Config:
    small = (
        "model.features=[4,8]",
        "warm_start.weights=elsewhere",
        "data.channels=[grey]",
        "normalise.method=zscore",
        "augment.stain=0",
    )
    size = ("sampling.patch_size=[8,8]", f"trainer.max_steps={STEPS}", "augment.quarter_turns=false")
    return schema.load(Path("configs/histology_unet.yaml"), [*small, *size, *overrides])


def noise(batches: int) -> DataLoader[Any]:
    images = torch.randn(2 * batches, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return DataLoader(TensorDataset(images), batch_size=2)


def fit(
    module: TinyModule,
    *callbacks: lightning.Callback,
    folder: Path,
    batches: int = STEPS,
    checkpoint: Path | None = None,
    **options: Any,
) -> None:
    trainer = lightning.Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **{"max_steps": STEPS, **options},
    )
    loaders = (noise(batches), noise(1))
    with warnings.catch_warnings():
        for message in (
            ".*LeafSpec.*",
            ".*many workers.*",
            ".*checkpoint directory.*",
            ".*logging interval.*",
            ".*in eval mode.*",
        ):
            warnings.filterwarnings("ignore", message)
        trainer.fit(module, *loaders, ckpt_path=checkpoint, weights_only=True)
