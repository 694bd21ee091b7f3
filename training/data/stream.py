"""The stream of batches of a run: locations are drawn in the main process, patches are cut there or in worker processes.

Every byte of a batch depends on the seed and the batch's number alone. A round is the time between two validations; its
locations are drawn when it begins, so that the sampler can use hard negatives of the validation before it.
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
from training.data.patch_dataset import PatchDataset, PatchLocation, TrainingPatch
from training.data.sampling import PatchSampler
from training.distributed import SINGLE_PROCESS, ProcessGroup

STALL_S = 45  # without a batch, after which a worker counts as stuck; the process then ends within a minute
PID, CASE, START = range(3)  # columns of the workers' table
IDLE = -1  # in column CASE
FORK = "fork" if sys.platform == "linux" else None  # elsewhere the platform's default


class PatchBatchSampler(Sampler[list[PatchLocation]]):
    """Locations of the patches in the batches `first` .. `end` - 1.

    Args:
        sampler: draws the locations.
        config: the run's.
        processes: those that share a batch, which has `trainer.batch_size` patches for each; each draws its own part.
    """

    def __init__(self, sampler: PatchSampler, config: Config, processes: ProcessGroup = SINGLE_PROCESS) -> None:
        self.sampler = sampler
        self.processes = processes
        self.seed = config.run.seed
        self.batch_size = config.trainer.batch_size
        self.first = self.end = 0

    def draw_location(self, index: int) -> PatchLocation:
        """Draw the location of the patch with a number in the run."""
        number, start = self.sampler.draw(np.random.default_rng((self.seed, index, 0)))
        return PatchLocation(index, number, start)

    def __iter__(self) -> Iterator[list[PatchLocation]]:
        for batch in range(self.first, self.end):
            first = (batch * self.processes.size + self.processes.rank) * self.batch_size
            yield [self.draw_location(index) for index in range(first, first + self.batch_size)]

    def __len__(self) -> int:
        return self.end - self.first


class PatchStream:
    """All batches of a run, from number `start` on.

    Its length is one more than the number of batches, so that Lightning never sees the end of an epoch: `RunScheduler` ends
    the run, not the data.

    Args:
        patches: cuts the patches.
        sampler: draws their locations.
        config: the run's.
        pin: whether batches go to pinned memory, from which a GPU copies faster.
        processes: those that share a batch.

    Attributes:
        start: number of the first batch; set before the stream is iterated.
    """

    def __init__(
        self,
        patches: PatchDataset,
        sampler: PatchSampler,
        config: Config,
        *,
        pin: bool = False,
        processes: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        section = config.trainer
        self.start = 0
        self._iterator: Any = None
        self.round = section.validate_every_steps * config.optimizer.accumulate
        self.batches = section.max_steps * config.optimizer.accumulate
        self.locations = PatchBatchSampler(sampler, config, processes)
        self.workers = WorkerTable(section.workers, [case.name for case in patches.cases])
        self.loader = DataLoader(
            _PatchesOrErrors(patches, self.workers),
            batch_sampler=self.locations,
            num_workers=section.workers,
            persistent_workers=section.workers > 0,
            multiprocessing_context=FORK if section.workers else None,
            timeout=STALL_S if section.workers else 0,
            worker_init_fn=self.workers.register,
            collate_fn=_collate,
            generator=torch.Generator(),  # its own, so that iterating changes no other generator
            pin_memory=pin,
        )

    def __iter__(self) -> Iterator[TrainingPatch]:
        first = self.start
        while first < self.batches:
            self.locations.first, self.locations.end = first, min((first // self.round + 1) * self.round, self.batches)
            self._iterator = iter(self.loader)
            for batch in self._iterator:
                if isinstance(batch, DataError):
                    raise batch
                yield batch
            first = self.locations.end

    def __len__(self) -> int:
        return self.batches + 1

    def close(self) -> None:
        """End all workers, also stuck ones, without which the process could not end."""
        if self.loader.num_workers and self._iterator is not None:
            self._iterator._shutdown_workers()  # has no public name
        self.workers.kill()


class WorkerTable:
    """Table in shared memory in which each worker process writes the case that it reads and since when.

    Args:
        count: number of worker processes.
        names: of the cases, by their number.
    """

    def __init__(self, count: int, names: Sequence[str]) -> None:
        self.names = names
        self.table = torch.full((count, 3), IDLE, dtype=torch.int64)
        self.table.share_memory_()  # type: ignore[no-untyped-call]

    def register(self, number: int) -> None:
        """Enter this worker, and have it ignore signals: the main process handles them and ends its workers."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.table[number, PID] = os.getpid()

    def set_case(self, case: int) -> None:
        """Enter the case that this worker starts to read, or IDLE; does nothing in the main process."""
        worker = get_worker_info()
        if worker is not None:
            self.table[worker.id, START] = time.monotonic_ns()
            self.table[worker.id, CASE] = case

    def to_data_error(self, error: RuntimeError) -> DataError | None:
        """Return a loader's error about a dead or stuck worker with the case that it was reading; None for other errors."""
        match = re.match(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)", str(error))
        if match:
            pids = [int(pid) for pid in match[1].split(",")]
            rows = self.table[torch.isin(self.table[:, PID], torch.tensor(pids))]
            return DataError(
                "worker_died",
                f"{self._about(rows)}: the process that cut its patches died; if memory ran out, lower trainer.workers or "
                "trainer.cache_mib, otherwise check the case's files; run the same command to resume",
            )
        if str(error).startswith("DataLoader timed out"):
            busy = self.table[self.table[:, CASE] != IDLE]
            return DataError(
                "worker_stuck",
                f"{self._about(busy[busy[:, START].argsort()][:1])}: no patch came for {STALL_S} s; check that its files "
                "can be read, or raise trainer.cache_mib if opening them is slow; run the same command to resume",
            )
        return None

    def kill(self) -> None:
        """Kill all workers, also those that do not respond."""
        pids = set(self.table[:, PID].tolist())
        for child in multiprocessing.active_children():
            if child.pid in pids:
                child.kill()

    def _about(self, rows: Tensor) -> str:
        names = sorted({self.names[number] for number in rows[:, CASE].tolist() if number != IDLE})
        return f"case {', '.join(names)}" if names else "no case"


class _PatchesOrErrors(Dataset[TrainingPatch | DataError]):
    """Patches, or the errors of cutting them: raised in a worker, an error would lose its message in a traceback."""

    def __init__(self, patches: PatchDataset, workers: WorkerTable) -> None:
        self.patches = patches
        self.workers = workers

    def __getitem__(self, location: PatchLocation) -> TrainingPatch | DataError:
        self.workers.set_case(location.case)
        try:
            return self.patches[location]
        except DataError as error:
            return error
        finally:
            self.workers.set_case(IDLE)


def _collate(patches: list[TrainingPatch | DataError]) -> Any:
    """Return a batch of the patches, or the first error among them."""
    return next((patch for patch in patches if isinstance(patch, DataError)), None) or default_collate(patches)
