"""Pretraining: train a U-Net's encoder on unlabelled images, as part of a denoising autoencoder.

The autoencoder (Vincent et al. 2008) restores images with noise and blanked blocks (Pathak et al. 2016, arXiv:1604.07379).
It has no skip connections, since an image could bypass the encoder through them.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from matplotlib.figure import Figure
from pytorch_lightning import seed_everything
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from configs import schema
from configs.network_sections import UNetSection
from configs.schema import Config, ConfigError
from configs.sections import PretrainSection, WarmStartSection
from disk.publish import publish
from evaluation.plots import figure_to_png
from evaluation.rendering import TEXT, to_picture
from inference.predictors.methods import memory_format_of
from inference.predictors.predictor import best_device
from models.architectures import ENCODER, build
from models.layers import Convolution, Transposed, activation_of, norm_of
from models.unet import UNet, centre_crop
from training.errors import NumericError
from training.optimization.optimizers import make_optimizer
from training.optimization.precision import autocast
from training.optimization.schedule import rate_factor
from training.pretraining.unlabelled import UnlabelledPatches, unlabelled_cases

WEIGHTS, PICTURE = "pretrained.safetensors", "pretrained.png"  # in the run's folder
SMALLEST_BLOCK_PX = 4  # side of a blanked block
PICTURE_PATCHES = 4


@dataclass(frozen=True)
class Pretrained:
    """Files and losses of a finished pretraining.

    Args:
        weights: file of the encoder's weights, under their names in the U-Net.
        picture: file that shows corrupted, restored and original patches.
        losses: loss of each step, the mean squared error of normalised intensities.
        skipped: files in the folder that are no images.
    """

    weights: Path
    picture: Path
    losses: tuple[float, ...]
    skipped: tuple[Path, ...]


class Autoencoder(nn.Module):
    """The encoder of a U-Net, sharing its weights, and a decoder of one transposed convolution per level."""

    def __init__(self, network: UNet, config: Config, section: UNetSection) -> None:
        super().__init__()
        dimensions, features = config.data.dimensions, section.features
        self.encoder = nn.Sequential(*itertools.chain(*zip(network.encoder, [*network.down, nn.Identity()], strict=True)))
        layers: list[nn.Module] = []
        for step in reversed(range(len(features) - 1)):
            stride, here = section.stride(step, dimensions), features[step]
            layers.append(Transposed[dimensions](features[step + 1], here, kernel_size=stride, stride=stride))
            layers += [norm_of(section.norm, dimensions, here), activation_of(section.activation)]
        self.decoder = nn.Sequential(*layers, Convolution[dimensions](features[0], len(config.data.channels), kernel_size=1))

    def forward(self, images: Tensor) -> Tensor:
        """Restore images (B, C, *S), (B, C, *S'); valid convolutions of the encoder make S' smaller."""
        restored: Tensor = self.decoder(self.encoder(images))
        return restored


def pretrain(config: Config, on_progress: Callable[[object, int, int], None]) -> Pretrained:
    """Train the encoder on `pretrain.images`, with the run's optimizer and schedule, and write it into the run's folder.

    Args:
        config: config of the run.
        on_progress: called with a unit, how many are done, and how many there are.

    Raises:
        ConfigError: the network isn't a U-Net, `pretrain.images` is missing, or the run has a pretrained encoder already.
        DataError: there is no image, or one that can't be used.
        NumericError: the loss is NaN or infinite.
    """
    folder = config.run.folder / config.run.name
    section = _checked_section(config, folder / WEIGHTS)
    cases, skipped = unlabelled_cases(cast(Path, config.pretrain.images))
    patches = UnlabelledPatches(cases, config)
    seed_everything(config.run.seed, verbose=False)
    network, device = cast(UNet, build(config)), best_device()
    autoencoder = Autoencoder(network, config, section)
    autoencoder.to(device, memory_format=memory_format_of(config))  # type: ignore[call-overload]  # missing in its types
    losses = []
    for loss in _training_losses(autoencoder, config, _batches(patches, section, config.pretrain.max_steps)):
        losses.append(loss)
        on_progress("steps", len(losses), config.pretrain.max_steps)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PICTURE).write_bytes(_picture(autoencoder, *next(_batches(patches, section, 1))))
    tensors = {name: value.cpu().contiguous() for name, value in network.state_dict().items() if name.startswith(ENCODER)}
    publish(folder / WEIGHTS, lambda part: save_file(tensors, part, {"config": schema.dump(config)}))
    return Pretrained(folder / WEIGHTS, folder / PICTURE, tuple(losses), skipped)


def _checked_section(config: Config, weights: Path) -> UNetSection:
    if not isinstance(config.model, UNetSection):
        raise ConfigError(
            f"model.name: overtile pretrain trains the encoder of a unet, but this config is of a {config.model.name}; "
            "give the config of a unet"
        )
    if config.pretrain.images is None:
        raise ConfigError("pretrain.images: missing; set it to the folder of unlabelled images to train on")
    if weights.exists():
        raise ConfigError(f"{weights} exists; start from it with warm_start.weights={weights}, or choose another run.name")
    return config.model


def _training_losses(autoencoder: Autoencoder, config: Config, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[float]:
    """Train on the batches of corrupted and clean patches, and yield the loss of each step."""
    device = next(autoencoder.parameters()).device
    optimizer = make_optimizer(autoencoder, config.model_copy(update={"warm_start": WarmStartSection()}))
    scaler = torch.amp.GradScaler(device.type, enabled=config.trainer.precision == "float16")
    for step, (corrupted, clean) in enumerate(batches):
        factor = rate_factor(config.optimizer, step / config.pretrain.max_steps, step)
        for group in optimizer.param_groups:
            group["lr"] = config.optimizer.learning_rate * factor
        with autocast(config, device):
            restored = autoencoder(corrupted.to(device)).float()
        loss = functional.mse_loss(restored, centre_crop(clean, restored.shape[2:]).to(device))
        if not torch.isfinite(loss):
            raise NumericError(f"loss is {loss.item()} at step {step}; lower optimizer.learning_rate or check the images")
        optimizer.zero_grad()
        torch.autograd.backward(scaler.scale(loss))
        scaler.step(optimizer)
        scaler.update()
        yield loss.item()


def _batches(patches: UnlabelledPatches, section: UNetSection, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of corrupted and clean patches, both (B, C, *patch); equal configs give equal batches."""
    config, size = patches.config, patches.config.trainer.batch_size
    loader = DataLoader(patches, size, sampler=range(count * size), num_workers=config.trainer.workers)
    random = torch.Generator().manual_seed(config.run.seed)
    sides = [max(SMALLEST_BLOCK_PX, section.axis(number).stride) for number in range(config.data.dimensions)]
    for clean in loader:
        yield corrupt(clean, config.pretrain, sides, random), clean


def corrupt(clean: Tensor, section: PretrainSection, sides: Sequence[int], random: torch.Generator) -> Tensor:
    """Return patches (B, C, *S) with Gaussian noise, and with the share `masked` of blocks set to the channel's mean.

    Args:
        clean: (B, C, *S).
        section: amounts; `noise` is the noise's standard deviation over that of the channel.
        sides: sides of a block in pixels, one per axis.
        random: random generator.
    """
    others = (0, *range(2, clean.ndim))
    mean, deviation = clean.mean(others, keepdim=True), clean.std(others, keepdim=True)
    noisy = clean + section.noise * deviation * torch.randn(clean.shape, generator=random)
    blocks = [-(-size // side) for size, side in zip(clean.shape[2:], sides, strict=True)]  # rounded up
    blanked = torch.rand(len(clean), 1, *blocks, generator=random) < section.masked
    for axis, side in enumerate(sides, start=2):
        blanked = blanked.repeat_interleave(side, axis).narrow(axis, 0, clean.shape[axis])
    return torch.where(blanked, mean, noisy)


def _picture(autoencoder: Autoencoder, corrupted: Tensor, clean: Tensor) -> bytes:
    """Return a PNG with a row per patch: corrupted, restored and original."""
    device = next(autoencoder.parameters()).device
    with torch.inference_mode():
        restored = autoencoder.eval()(corrupted[:PICTURE_PATCHES].to(device)).float().cpu()
    columns = [centre_crop(patches[:PICTURE_PATCHES], restored.shape[2:]).numpy() for patches in (corrupted, restored, clean)]
    rows = []
    for patches in zip(*columns, strict=True):  # (C, *S) each, scaled to the range of the original
        low, high = np.percentile(patches[-1], (0.5, 99.5))
        shares = [np.clip((patch - low) / max(float(high - low), 1e-6), 0, 1) for patch in patches]
        planes = [share if share.ndim == 3 else share[:, share.shape[1] // 2] for share in shares]  # the middle slice
        rows.append(np.concatenate([to_picture(np.rint(255 * plane).astype(np.uint8)) for plane in planes], axis=1))
    picture = np.concatenate(rows)
    figure = Figure(figsize=(7.2, 0.4 + 7.2 * picture.shape[0] / picture.shape[1]), layout="constrained")
    axes = figure.subplots()
    axes.imshow(picture, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title("corrupted | restored | original", fontsize=12, color=TEXT)
    return figure_to_png(figure, dpi=120)
