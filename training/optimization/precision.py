"""The floating-point type of training, as Lightning and torch name it."""

from contextlib import AbstractContextManager
from typing import Literal

import torch

from configs.schema import Config, ConfigError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
_LIGHTNING: dict[str, Precision] = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
_TORCH = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def precision_of(config: Config, device: torch.device) -> Precision:
    """Return the config's precision under Lightning's name.

    Raises:
        ConfigError: float16 without a GPU.
    """
    return _LIGHTNING[_type_name(config, device)]


def autocast(config: Config, device: torch.device) -> AbstractContextManager[object]:
    """Return a torch autocast context for the config's precision."""
    name = _type_name(config, device)
    return torch.autocast(device.type, _TORCH[name], enabled=name != "float32")


def _type_name(config: Config, device: torch.device) -> str:
    """Return the type's name; `auto` is bfloat16 where the hardware multiplies it: half the time, and the range of float32."""
    name = config.trainer.precision
    if name == "float16" and device.type != "cuda":
        raise ConfigError("trainer.precision: float16 needs a GPU, but there is none; set it to auto, float32 or bfloat16")
    if name != "auto":
        return name
    cpu = torch.cpu.get_capabilities()
    return "bfloat16" if device.type == "cuda" or cpu.get("avx512_bf16") or cpu.get("amx_bf16") else "float32"
