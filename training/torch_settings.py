"""Settings of torch and Lightning during training: determinism, quiet logging, the compiler."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from configs.schema import Config, ConfigError
from inference.predictors.runtime import missing_compiler


def check_compiler(config: Config) -> None:
    """Check that torch.compile finds a C++ compiler, if the config asks for it.

    Raises:
        ConfigError: the compiler is missing.
    """
    if config.trainer.compile and (compiler := missing_compiler()) is not None:
        raise ConfigError(
            f"trainer.compile: needs {compiler}, which was not found; install it, set CXX to another compiler, or set "
            "trainer.compile to false"
        )


@contextmanager
def deterministic_algorithms(device: torch.device) -> Iterator[None]:
    """Use deterministic algorithms within the context; on a GPU as far as there are any."""
    modes = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]  # a property that torch adds at run time
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # saves 5 % of a step
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(modes[0], warn_only=modes[1])
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's log and those of its warnings that do not apply within the context."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in (
                ".*does not have many workers.*",
                ".*isinstance.treespec, LeafSpec.*",
                ".*your dataloader is not resumable.*",  # ours resumes by its `start`
                ".*does not have a deterministic implementation.*",
            ):
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
