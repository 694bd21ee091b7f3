"""How torch and Lightning are set up while something is trained."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from configs.schema import Config, ConfigError
from inference.predictors.runtime import missing_compiler


def check_compiler(config: Config) -> None:
    """Nothing, when torch.compile isn't wanted or finds the compiler that it needs.

    Raises:
        ConfigError: it doesn't.
    """
    if config.trainer.compile and (compiler := missing_compiler()) is not None:
        raise ConfigError(
            f"trainer.compile: needs {compiler}, which isn't here; install it, name another in CXX, or set it to false"
        )


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Equal numbers from equal ones; on a GPU as far as there are such algorithms."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]  # torch makes it a property
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a twentieth of a step
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


@contextmanager
def lightning_quiet() -> Iterator[None]:
    """Lightning's advice is for people who write their own loops."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in (
                ".*does not have many workers.*",
                ".*isinstance.treespec, LeafSpec.*",
                ".*your dataloader is not resumable.*",  # ours begins where it is told
                ".*does not have a deterministic implementation.*",
            ):
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
