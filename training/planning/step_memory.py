"""Predict the peak memory of a training step, counted on a network of tensors without contents."""

import torch

from configs.schema import Config
from inference.predictors.counting import META, shape_only_predictor
from inference.predictors.pass_memory import CpuOverhead, LiveBytes, TensorMemory
from training.objective.losses import make_loss
from training.objective.targets import empty_targets

MOMENTS = {"adamw": 2, "sgd": 1}  # values that an optimizer stores for each weight
TRAINING = CpuOverhead(14 * 2**20, weights=1, convolutions=1, scattered=1, scattered_by_instance_norm=7)


def training_bytes(config: Config, device: torch.device) -> int:
    """Return the peak memory of a training step on the device, including the network and its optimizer.

    On CUDA these are the live tensors in float32; mixed precision takes less. Prefetched images and patches are not included.
    """
    memory = count_training(config)
    return TRAINING.total(memory, config) if device.type == "cpu" else memory.peak_bytes


def count_training(config: Config) -> TensorMemory:
    """Count the live tensors of a training step: weights, gradients, moments, activations and temporary tensors."""
    memory = LiveBytes()
    with memory:
        network = shape_only_predictor(config).network.train()
        copies = MOMENTS[config.optimizer.name] + (config.optimizer.ema_decay > 0)
        moments = [torch.empty_like(weights) for weights in network.parameters() for _ in range(copies)]
        batch_size, channels = config.trainer.batch_size, len(config.data.channels)
        outputs = network.outputs(torch.empty(batch_size, channels, *config.patch_size, device=META))
        loss = make_loss(config, (1.0,) * len(config.data.classes))
        torch.autograd.backward(loss(outputs.logits, *empty_targets(config, META)))
        del moments, outputs
    return memory.memory
