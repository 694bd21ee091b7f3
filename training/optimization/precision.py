"""Which type the arithmetic of training is done in."""

from contextlib import AbstractContextManager
from typing import Literal

import torch

from configs.schema import Config, ConfigError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
_LIGHTNING: dict[str, Precision] = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
_TORCH = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def precision_of(config: Config, device: torch.device) -> Precision:
    """As Lightning calls it.

    Raises:
        ConfigError: float16 without a GPU.
    """
    return _LIGHTNING[_wanted(config, device)]


def autocast(config: Config, device: torch.device) -> AbstractContextManager[object]:
    """The same, as torch's context."""
    wanted = _wanted(config, device)
    return torch.autocast(device.type, _TORCH[wanted], enabled=wanted != "float32")


def _wanted(config: Config, device: torch.device) -> str:
    """`auto` is bfloat16 where the processor multiplies it by itself: half the time of float32, the same range."""
    wanted = config.trainer.precision
    if wanted == "float16" and device.type != "cuda":
        raise ConfigError("trainer.precision: float16 needs a GPU, and there is none; set it to auto, float32 or bfloat16")
    if wanted == "auto":
        return "bfloat16" if device.type == "cuda" or _cpu_multiplies_bfloat16() else "float32"
    return wanted


def _cpu_multiplies_bfloat16() -> bool:
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
