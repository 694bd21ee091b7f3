"""Distributed training: the processes that train one network together, and their collective operations.

Lightning starts them for `trainer.devices`, or torchrun or SLURM does. Each takes `trainer.batch_size` patches of a batch, so
that a step uses batch_size x processes patches; only the first process prints and writes files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as lightning
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import Tensor

from configs.schema import Config, ConfigError
from datasets.cases import Case
from disk.process import end_with_parent


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a run, and the rank of this one.

    Args:
        rank: of this process among all, from 0.
        size: number of processes.
        local_rank: of this process on its machine.
        nodes: number of machines.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    nodes: int = 1

    @property
    def is_first(self) -> bool:
        """Return whether this process prints and writes files."""
        return self.rank == 0

    def device(self, kind: torch.device) -> torch.device:
        """Return this process's own device of a kind."""
        return torch.device("cuda", self.local_rank) if kind.type == "cuda" and self.size > 1 else kind


SINGLE_PROCESS = ProcessGroup()
LAUNCHERS = (TorchElasticEnvironment, SLURMEnvironment)


def detect_process_group(config: Config) -> ProcessGroup:
    """Return the processes as torchrun's or SLURM's environment describes them, otherwise as the config does.

    Raises:
        ConfigError: the config asks for more GPUs than there are, or its devices do not match the processes that were started.
    """
    devices = config.trainer.devices
    if torch.cuda.is_available() and devices > torch.cuda.device_count():
        raise ConfigError(f"trainer.devices: {devices}, but there are {torch.cuda.device_count()} GPUs; set it to that or less")
    for kind in LAUNCHERS:
        if kind.detect():
            environment = kind()
            size = environment.world_size()
            if size % devices:
                raise ConfigError(
                    f"trainer.devices: {devices} processes on each machine, but {size} were started in total; start "
                    f"{devices} on each machine"
                )
            return ProcessGroup(environment.global_rank(), size, environment.local_rank(), size // devices)
    local_rank = LightningEnvironment().local_rank() if devices > 1 else 0
    if local_rank:
        try:
            end_with_parent()
        except ProcessLookupError as error:  # a process that Lightning started has nothing to save
            raise SystemExit(1) from error
    return ProcessGroup(local_rank, devices, local_rank)


def check_single_process(key: str) -> None:
    """Check that this process was not started as one of several, for a config key that starts processes itself.

    Raises:
        ConfigError: torchrun or SLURM started several.
    """
    for kind in LAUNCHERS:
        if kind.detect() and kind().world_size() > 1:
            raise ConfigError(f"{key}: starts all processes itself; run it without torchrun or srun, or as a single task")


def check_validation_shares(processes: ProcessGroup, cases: Sequence[Case]) -> None:
    """Check that each process has a case to validate on.

    Raises:
        ConfigError: there are more processes than cases.
    """
    if processes.size > len(cases):
        raise ConfigError(
            f"trainer.devices: {processes.size} processes, but {len(cases)} validation cases; start at most {len(cases)}, or "
            "put more cases into split val"
        )


def reduce_max(trainer: lightning.Trainer, *values: float) -> list[float]:
    """Return the largest of each value over all processes; all of them have to call it at the same point."""
    if trainer.world_size == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX)
    return tensor.tolist()


def gather(trainer: lightning.Trainer, items: Sequence[Any]) -> list[Any]:
    """Return the items of all processes, in the order of their ranks."""
    if trainer.world_size == 1:
        return list(items)
    parts: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(parts, list(items))
    return [item for part in parts for item in part]


class BroadcastBuffers(lightning.Callback):
    """Gives all processes the first one's statistics of norm layers before a validation.

    Each process computes them from its own patches; weights are equal without it, since all take the same steps.
    """

    def on_validation_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Broadcast the buffers if there are several processes."""
        if trainer.world_size > 1:
            for buffer in module.buffers():
                torch.distributed.broadcast(buffer, 0)


def reduce_sum(trainer: lightning.Trainer, value: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes."""
    if trainer.world_size > 1:
        value = value.clone()
        torch.distributed.all_reduce(value)
    return value
