"""Unlabelled images -> an encoder that knows what they look like, to begin a training with.

A denoising autoencoder (Vincent et al. 2008) whose images also have blanked blocks (Pathak et al. 2016, arXiv:1604.07379).
It has no skips: through them an image could pass the encoder by, and nothing would have to be learnt.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
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
from evaluation.rendering import TEXT, Picture, figure_to_png, to_picture
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
SMALLEST_BLOCK_PX = 4  # a side of what is blanked
SHOWN = 4  # patches in the picture


@dataclass(frozen=True)
class Pretrained:
    """What is left of a pretraining.

    Args:
        weights: the encoder's, under the names that they have in the U-Net.
        picture: patches, what was made of them, and what they were.
        losses: of each step, mean squared errors of normalised intensities.
    """

    weights: Path
    picture: Path
    losses: tuple[float, ...]


class Autoencoder(nn.Module):
    """The encoder of a U-Net, and a convolution a level to come back; its encoder's weights are the U-Net's own."""

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
        """(B, C, *S) of (B, C, *S), less what valid convolutions lose on the way down."""
        restored: Tensor = self.decoder(self.encoder(images))
        return restored


def pretrain(config: Config, on_progress: Callable[[object, int, int], None]) -> Pretrained:
    """Trains the encoder on `pretrain.images`, by the run's optimizer and schedule, and writes it into the run's folder.

    Args:
        config: the run's.
        on_progress: called with what is counted, how many are done, and how many there are.

    Raises:
        ConfigError: the network is no U-Net, no images are named, or there is a pretrained encoder.
        DataError: there is no image, or one that can't be used.
        NumericError: the loss is no longer a number.
    """
    folder = config.run.folder / config.run.name
    section = _check(config, folder / WEIGHTS)
    patches = UnlabelledPatches(unlabelled_cases(cast(Path, config.pretrain.images)), config)
    seed_everything(config.run.seed, verbose=False)
    network, device = cast(UNet, build(config)), best_device()
    autoencoder = Autoencoder(network, config, section)
    autoencoder.to(device, memory_format=memory_format_of(config))  # type: ignore[call-overload]  # missing in its types
    losses = []
    for loss in _train(autoencoder, config, _batches(patches, section, config.pretrain.max_steps)):
        losses.append(loss)
        on_progress("steps", len(losses), config.pretrain.max_steps)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PICTURE).write_bytes(_picture(autoencoder, *next(_batches(patches, section, 1))))
    tensors = {name: value.cpu().contiguous() for name, value in network.state_dict().items() if name.startswith(ENCODER)}
    publish(folder / WEIGHTS, lambda part: save_file(tensors, part, {"config": schema.dump(config)}))
    return Pretrained(folder / WEIGHTS, folder / PICTURE, tuple(losses))


def _check(config: Config, written: Path) -> UNetSection:
    if not isinstance(config.model, UNetSection):
        raise ConfigError(
            f"model.name: overtile pretrain trains the encoder of a unet, and this is a {config.model.name}'s config; "
            "give a unet's"
        )
    if config.pretrain.images is None:
        raise ConfigError("pretrain.images: missing; name the folder of unlabelled images to train on")
    if written.exists():
        raise ConfigError(f"{written} is there; begin with it by warm_start.weights={written}, or choose another run.name")
    return config.model


def _train(autoencoder: Autoencoder, config: Config, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[float]:
    """The loss of each step."""
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
    """Corrupted patches and clean ones, both (B, C, *patch); equal configs give equal ones."""
    config, size = patches.config, patches.config.trainer.batch_size
    loader = DataLoader(patches, size, sampler=range(count * size), num_workers=config.trainer.workers)
    random = torch.Generator().manual_seed(config.run.seed)
    sides = [max(SMALLEST_BLOCK_PX, section.axis(number).stride) for number in range(config.data.dimensions)]
    for clean in loader:
        yield corrupt(clean, config.pretrain, sides, random), clean


def corrupt(clean: Tensor, section: PretrainSection, sides: Sequence[int], random: torch.Generator) -> Tensor:
    """(B, C, *S) with Gaussian noise of `noise` times each channel's deviation, and its mean in `masked` of the blocks.

    Args:
        clean: (B, C, *S).
        section: how much.
        sides: of a block, one an axis.
        random: what is drawn from.
    """
    others = (0, *range(2, clean.ndim))
    mean, deviation = clean.mean(others, keepdim=True), clean.std(others, keepdim=True)
    noisy = clean + section.noise * deviation * torch.randn(clean.shape, generator=random)
    blanked = torch.rand(len(clean), 1, *map(_blocks, clean.shape[2:], sides), generator=random) < section.masked
    for axis, side in enumerate(sides, start=2):
        blanked = blanked.repeat_interleave(side, axis).narrow(axis, 0, clean.shape[axis])
    return torch.where(blanked, mean, noisy)


def _blocks(size: int, side: int) -> int:
    return -(-size // side)


def _picture(autoencoder: Autoencoder, corrupted: Tensor, clean: Tensor) -> bytes:
    """PNG: a row a patch, what the network was given, what it made of that, and what the patch was."""
    device = next(autoencoder.parameters()).device
    with torch.inference_mode():
        restored = autoencoder.eval()(corrupted[:SHOWN].to(device)).float().cpu()
    columns = [centre_crop(patches[:SHOWN], restored.shape[2:]).numpy() for patches in (corrupted, restored, clean)]
    rows = [_row([column[number] for column in columns]) for number in range(len(restored))]
    picture = np.concatenate(rows)
    figure = Figure(figsize=(7.2, 0.4 + 7.2 * picture.shape[0] / picture.shape[1]), layout="constrained")
    axes = figure.subplots()
    axes.imshow(picture, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title("given | restored | as it was", fontsize=12, color=TEXT)
    return figure_to_png(figure, dpi=120)


def _row(patches: Sequence[NDArray[np.float32]]) -> Picture:
    """Patches (C, *S) side by side, over the range of the last one; of a volume the middle slice."""
    low, high = np.percentile(patches[-1], (0.5, 99.5))
    shares = [np.clip((patch - low) / max(float(high - low), 1e-6), 0, 1) for patch in patches]
    planes = [share if share.ndim == 3 else share[:, share.shape[1] // 2] for share in shares]
    return np.concatenate([to_picture(np.rint(255 * plane).astype(np.uint8)) for plane in planes], axis=1)
