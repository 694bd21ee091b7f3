"""Several processes that train one network together: who is who, what they agree on, and how they end together.

Lightning starts them for `trainer.devices`, or torchrun or SLURM did. Each takes `trainer.batch_size` patches of every batch,
so that a step sees batch_size x processes; the first one alone says and writes anything.
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
class Team:
    """The processes of a run, and which of them this one is.

    Args:
        rank: this one's number among all, from 0.
        size: of all.
        local_rank: this one's number on its machine.
        nodes: machines.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    nodes: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one says and writes things."""
        return self.rank == 0

    def device(self, kind: torch.device) -> torch.device:
        """The one that is this process's own, of the kind there is."""
        return torch.device("cuda", self.local_rank) if kind.type == "cuda" and self.size > 1 else kind


ALONE = Team()
LAUNCHERS = (TorchElasticEnvironment, SLURMEnvironment)


def team_of(config: Config) -> Team:
    """What the environment says, where torchrun or SLURM started the processes, else what the config says.

    Raises:
        ConfigError: there are fewer GPUs, or not as many processes as would fit the config.
    """
    devices = config.trainer.devices
    if torch.cuda.is_available() and devices > torch.cuda.device_count():
        raise ConfigError(f"trainer.devices: {devices}, and there are {torch.cuda.device_count()} GPUs; set it to that at most")
    for kind in LAUNCHERS:
        if kind.detect():
            found = kind()
            if found.world_size() % devices:
                raise ConfigError(
                    f"trainer.devices: {devices} processes on each machine, and {found.world_size()} were started in all; "
                    "start as many on each machine as trainer.devices says"
                )
            return Team(found.global_rank(), found.world_size(), found.local_rank(), found.world_size() // devices)
    local_rank = LightningEnvironment().local_rank() if devices > 1 else 0
    if local_rank:
        try:
            end_with_parent()
        except ProcessLookupError as error:  # a process that Lightning started has nothing to save
            raise SystemExit(1) from error
    return Team(local_rank, devices, local_rank)


def check_alone(what: str) -> None:
    """Nothing, where this process wasn't started as one of several.

    Raises:
        ConfigError: it was.
    """
    for kind in LAUNCHERS:
        if kind.detect() and kind().world_size() > 1:
            raise ConfigError(f"{what}: starts all processes itself; leave torchrun or srun out, or give it a single task")


def check_shares(team: Team, cases: Sequence[Case]) -> None:
    """Nothing, when each process has a case to validate on.

    Raises:
        ConfigError: there are more processes than cases.
    """
    if team.size > len(cases):
        raise ConfigError(
            f"trainer.devices: {team.size} processes, and {len(cases)} validation cases to share; start at most {len(cases)}, "
            "or put more cases into split val"
        )


def largest(trainer: lightning.Trainer, *values: float) -> list[float]:
    """Of each value the largest that any process came with; every process has to ask, at the same place."""
    if trainer.world_size == 1:
        return list(values)
    together = torch.tensor(values, dtype=torch.float64, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(together, torch.distributed.ReduceOp.MAX)
    return together.tolist()


def gathered(trainer: lightning.Trainer, items: Sequence[Any]) -> list[Any]:
    """All processes' items, the first process's first."""
    if trainer.world_size == 1:
        return list(items)
    parts: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(parts, list(items))
    return [item for part in parts for item in part]


class SameNetwork(lightning.Callback):
    """Before a validation: every process has the first one's statistics of norms, which each gathered on its own patches.

    Weights are equal anyhow, as every step is.
    """

    def on_validation_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Nothing where there is one process."""
        if trainer.world_size > 1:
            for statistics in module.buffers():
                torch.distributed.broadcast(statistics, 0)


def summed(trainer: lightning.Trainer, value: Tensor) -> Tensor:
    """Over the processes."""
    if trainer.world_size > 1:
        value = value.clone()
        torch.distributed.all_reduce(value)
    return value
