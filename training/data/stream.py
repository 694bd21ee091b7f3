"""Batches of patches without end: drawn in the main process, cut there or in workers that are watched.

Which patches a batch holds, and every byte of them, depends on the seed and the batch's number alone. Between two
validations lies a round; batches of the next one are drawn when it begins, so that a sampler may learn from a validation.
"""

import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate, get_worker_info

from configs.schema import Config
from imaging.errors import DataError
from training.data.patch_dataset import Draw, PatchDataset
from training.data.sampling import PatchSampler
from training.data.training_patch import TrainingPatch
from training.distributed import ALONE, Team

STALL_S = 45  # a worker that gives nothing for so long is stuck; the process then ends within a minute
PID, CASE, BEGAN = range(3)  # columns of what workers say about themselves
IDLE = -1
FORK = "fork" if sys.platform == "linux" else None  # elsewhere the system's own way


class BatchDraws(Sampler[list[Draw]]):
    """The draws of batches `first` .. `end` - 1, as `config.trainer.batch_size` says.

    Args:
        sampler: says where patches lie.
        config: the run's.
        team: the processes that share a batch, which is then as many times as large; each draws its own part of it.
    """

    def __init__(self, sampler: PatchSampler, config: Config, team: Team = ALONE) -> None:
        self.sampler = sampler
        self.team = team
        self.seed = config.run.seed
        self.batch_size = config.trainer.batch_size
        self.first = self.end = 0

    def draw(self, index: int) -> Draw:
        """Where patch `index` lies."""
        number, start = self.sampler.draw(np.random.default_rng((self.seed, index, 0)))
        return Draw(index, number, start)

    def __iter__(self) -> Iterator[list[Draw]]:
        for batch in range(self.first, self.end):
            first = (batch * self.team.size + self.team.rank) * self.batch_size
            yield [self.draw(index) for index in range(first, first + self.batch_size)]

    def __len__(self) -> int:
        return self.end - self.first


class PatchStream:
    """All batches of a run, from `start` on.

    Its length is one batch more than the run takes, so that a training loop never sees a last one: what ends a run is the
    run, not its data.

    Args:
        patches: cuts them.
        sampler: says where.
        config: the run's.
        pin: whether batches go to memory that a GPU reads faster.
        team: the processes that share a batch.

    Attributes:
        start: the first batch; set before the stream is iterated.
    """

    def __init__(
        self, patches: PatchDataset, sampler: PatchSampler, config: Config, *, pin: bool = False, team: Team = ALONE
    ) -> None:
        section = config.trainer
        self.start = 0
        self._iterator: Any = None
        self.round = section.validate_every_steps * config.optimizer.accumulate
        self.batches = section.max_steps * config.optimizer.accumulate
        self.draws = BatchDraws(sampler, config, team)
        self.workers = Workers(section.workers, [case.name for case in patches.cases])
        self.loader = DataLoader(
            _Cutting(patches, self.workers),
            batch_sampler=self.draws,
            num_workers=section.workers,
            persistent_workers=section.workers > 0,
            multiprocessing_context=FORK if section.workers else None,
            timeout=STALL_S if section.workers else 0,
            worker_init_fn=self.workers.begin,
            collate_fn=_collate,
            generator=torch.Generator(),  # its own, so that no other numbers depend on how often it is begun
            pin_memory=pin,
        )

    def __iter__(self) -> Iterator[TrainingPatch]:
        first = self.start
        while first < self.batches:
            self.draws.first, self.draws.end = first, min((first // self.round + 1) * self.round, self.batches)
            self._iterator = iter(self.loader)
            for batch in self._iterator:
                if isinstance(batch, DataError):
                    raise batch
                yield batch
            first = self.draws.end

    def __len__(self) -> int:
        return self.batches + 1

    def close(self) -> None:
        """Ends the workers, also those that are stuck; else the process could not end."""
        if self.loader.num_workers and self._iterator is not None:
            self._iterator._shutdown_workers()  # there is no public name for it
        self.workers.kill()


class Workers:
    """What each worker process is doing, written by itself into memory that all share.

    Args:
        count: of the processes.
        names: of the cases, by their number.
    """

    def __init__(self, count: int, names: Sequence[str]) -> None:
        self.names = names
        self.table = torch.full((count, 3), IDLE, dtype=torch.int64)
        self.table.share_memory_()  # type: ignore[no-untyped-call]

    def begin(self, number: int) -> None:
        """Called in each worker: signals are the main process's to answer, which ends its workers itself."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.table[number, PID] = os.getpid()

    def note(self, case: int) -> None:
        """Called before a patch of that case is cut, and with IDLE after it."""
        worker = get_worker_info()
        if worker is not None:
            self.table[worker.id, BEGAN] = time.monotonic_ns()
            self.table[worker.id, CASE] = case

    def explain(self, error: RuntimeError) -> DataError | None:
        """What a loader's error means, with the case it is about; None where it isn't about a worker."""
        dead = re.match(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)", str(error))
        if dead:
            pids = [int(pid) for pid in dead[1].split(",")]
            rows = self.table[torch.isin(self.table[:, PID], torch.tensor(pids))]
            return DataError(
                "worker_died",
                f"{self._about(rows)}: the process that cut its patches died; where memory is short, lower trainer.workers or "
                "trainer.cache_mib, else check the case's files; the same command goes on",
            )
        if str(error).startswith("DataLoader timed out"):
            busy = self.table[self.table[:, CASE] != IDLE]
            return DataError(
                "worker_stuck",
                f"{self._about(busy[busy[:, BEGAN].argsort()][:1])}: no patch came for {STALL_S} s; check that its files "
                "can be read, or raise trainer.cache_mib where opening them takes as long; the same command goes on",
            )
        return None

    def kill(self) -> None:
        """Ends all workers that there are, also those that don't listen."""
        pids = set(self.table[:, PID].tolist())
        for child in multiprocessing.active_children():
            if child.pid in pids:
                child.kill()

    def _about(self, rows: Tensor) -> str:
        names = sorted({self.names[number] for number in rows[:, CASE].tolist() if number != IDLE})
        return f"case {', '.join(names)}" if names else "no case"


class _Cutting(Dataset[TrainingPatch | DataError]):
    """Patches, or what is wrong with them: from a worker errors would come with their message lost in a traceback."""

    def __init__(self, patches: PatchDataset, workers: Workers) -> None:
        self.patches = patches
        self.workers = workers

    def __getitem__(self, draw: Draw) -> TrainingPatch | DataError:
        self.workers.note(draw.case)
        try:
            return self.patches[draw]
        except DataError as error:
            return error
        finally:
            self.workers.note(IDLE)


def _collate(patches: list[TrainingPatch | DataError]) -> Any:
    """A batch, or the first error in it."""
    return next((patch for patch in patches if isinstance(patch, DataError)), None) or default_collate(patches)
