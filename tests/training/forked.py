"""Run the command line in a forked process that has everything imported, with faults injected at chosen calls.

A run takes about a second, so that tests can kill, stop and break hundreds of them.
"""

import hashlib
import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["training.run", "overtile"])  # torch can't be forked after a backward pass


STEP = "training.resuming.saving:RunScheduler.on_train_batch_end"
VALIDATION = "training.module:SegmentationModule.validation_step"
METHODS = {
    "unet": ("sampling.patch_size=[32,32]", "model.features=[4,8]", "model.dropout=0.3", "optimizer.ema_decay=0.9"),
    "sliding_window": (
        "model.window=15",
        "model.convolutions=[{features: 4, kernel: 4}, {features: 4, kernel: 3}]",
        "model.hidden=8",
    ),
}


def words(data: Path, folder: Path, method: str = "unet", *overrides: str) -> list[str]:
    """Return the command of a training of seven steps, with a validation every third step and a checkpoint at each."""
    return [
        "train",
        f"configs/histology_{method}.yaml",
        f"data.path={data}",
        f"run.folder={folder}",
        "run.name=run",
        "trainer.max_steps=7",
        "trainer.validate_every_steps=3",
        "trainer.batch_size=2",
        "trainer.checkpoint_minutes=1e-6",
        *METHODS[method],
        *overrides,
    ]


@dataclass(frozen=True)
class Moment:
    """A fault at the `count`-th call of a function.

    Args:
        function: what is called.
        count: from 1.
        act: a signal that the process sends itself, or an error number that the call fails with.
        after: whether the call is done before that.
        from_then_on: whether later calls meet the same.
    """

    function: str
    count: int = 1
    act: int = signal.SIGKILL
    fails: bool = False
    after: bool = False
    from_then_on: bool = False

    def arm(self) -> None:
        """Install the fault in this process."""
        module, _, path = self.function.partition(":")
        owner: Any = importlib.import_module(module)
        *parents, name = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, name, self._trapped(getattr(owner, name)))

    def _trapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        calls = 0

        def trapped(*words: Any, **others: Any) -> Any:
            nonlocal calls
            calls += 1
            strikes = calls == self.count or (self.from_then_on and calls > self.count)
            if strikes and not self.after:
                self._strike()
            outcome = function(*words, **others)
            if strikes and self.after:
                self._strike()
            return outcome

        return trapped

    def _strike(self) -> None:
        if self.fails:
            raise OSError(self.act, os.strerror(self.act))
        os.kill(os.getpid(), self.act)


@dataclass(frozen=True)
class Setting:
    """Replacement of a module's constant.

    Args:
        name: as `module:name`.
        value: in its place.
    """

    name: str
    value: object

    def arm(self) -> None:
        """Install it in this process."""
        module, _, name = self.name.partition(":")
        setattr(importlib.import_module(module), name, self.value)


@dataclass(frozen=True)
class Poison:
    """NaN in the patches of a case, from a patch of the run on.

    Args:
        case: by its number.
        first: the first such patch.
        times: how many of them a process meets; afterwards they are sound.
    """

    case: int
    first: int
    times: int = 10**6

    def arm(self) -> None:
        """Install it in this process."""
        data = importlib.import_module("training.data.patch_dataset")
        cut = data.PatchDataset.__getitem__
        met = 0

        def poisoned(self_: Any, draw: Any) -> Any:
            nonlocal met
            patch = cut(self_, draw)
            if draw.case == self.case and draw.patch >= self.first and met < self.times:
                met += 1
                return patch._replace(image=patch.image * float("nan"))
            return patch

        data.PatchDataset.__getitem__ = poisoned


Trap = Moment | Setting | Poison


def overtile(words: Sequence[object], log: Path, traps: Sequence[Trap] = (), timeout_s: float = 90) -> int:
    """Run a command and return its exit code, negative after a signal; append its output to a file."""
    process = start(words, log, traps)
    process.join(timeout_s)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"{words} still runs after {timeout_s} s; its output: {log.read_text()}")
    return int(process.exitcode or 0)


def start(words: Sequence[object], log: Path, traps: Sequence[Trap] = ()) -> Any:
    """Start a command like `overtile`, without waiting for its end."""
    process = CONTEXT.Process(target=_command, args=([str(word) for word in words], log, list(traps)))
    process.start()
    return process


def weights_of(run: Path) -> tuple[str, str]:
    """Return SHA-256 of the bundle's weights, and of network, optimizer and callbacks in the last checkpoint."""
    bundle = hashlib.sha256((run / "bundle" / "weights.safetensors").read_bytes()).hexdigest()
    last = max((run / "checkpoints").glob("step-*.ckpt"))
    state = torch.load(last, weights_only=True)
    return bundle, digest([state[key] for key in ("state_dict", "optimizer_states", "callbacks", "global_step")])


def digest(value: object) -> str:
    """Return the SHA-256 of nested lists and dictionaries of tensors."""
    sha256 = hashlib.sha256()
    _add(value, sha256)
    return sha256.hexdigest()


def _add(value: object, sha256: Any) -> None:
    if isinstance(value, torch.Tensor):
        sha256.update(value.contiguous().numpy().tobytes())
    elif isinstance(value, dict):
        for key, part in value.items():
            sha256.update(repr(key).encode())
            _add(part, sha256)
    elif isinstance(value, list | tuple):
        for part in value:
            _add(part, sha256)
    else:
        sha256.update(repr(value).encode())


def _command(words: list[str], log: Path, traps: Sequence[Trap]) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    page = importlib.import_module("training.monitoring.page")
    page.write_report = lambda *_, **__: None  # would take longer than the rest of the run
    for trap in traps:
        trap.arm()
    importlib.import_module("overtile").app(words)
