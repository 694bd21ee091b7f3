"""What a run is and where it came from: the config and the data that it keeps to, and a record of its sittings."""

import hashlib
import json
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from configs import schema
from configs.schema import Config, ConfigError
from disk.publish import publish
from imaging.errors import DataError
from models import bundle
from training.data.examination import Digests

DATA, LINEAGE = "data.json", "lineage.json"  # in the run's folder
MAY_CHANGE = {  # between two sittings of one run: nothing of it changes a number
    "trainer.workers",
    "trainer.max_minutes",
    "trainer.cache_mib",
    "trainer.checkpoint_minutes",
}


def claim(folder: Path, config: Config) -> None:
    """Writes the resolved config into the run's folder, or compares it with what is there.

    Raises:
        ConfigError: the run's folder holds a run with another config.
    """
    path = folder / bundle.CONFIG
    if path.exists():
        changed = sorted(_differences(schema.load(path).model_dump(), config.model_dump()) - MAY_CHANGE)
        if changed:
            raise ConfigError(f"{folder} holds a run with another {', '.join(changed)}; choose another run.name")
    publish(path, lambda part: part.write_text(schema.dump(config)))


def keep_to(folder: Path, digests: Digests) -> None:
    """Writes down which bytes the run trains on, or compares them with what is there.

    Raises:
        DataError: `data_changed`, with the cases.
    """
    path = folder / DATA
    if not path.exists():
        publish(path, lambda part: part.write_text(json.dumps(digests, indent=2) + "\n"))
        return
    known = {case: tuple(files) for case, files in json.loads(path.read_text()).items()}
    changed = sorted(case for case in known.keys() | digests.keys() if known.get(case) != digests.get(case))
    if changed:
        raise DataError(
            "data_changed",
            f"{folder}: files of {', '.join(changed)} aren't those that the run began with; restore them, or choose another "
            "run.name",
        )


def identity(config: Config, digests: Digests) -> str:
    """A digest of all that decides what the run comes to, and of nothing else."""
    values = config.model_dump(mode="json")
    for key in MAY_CHANGE:
        section, name = key.split(".")
        del values[section][name]
    return hashlib.sha256(json.dumps([values, digests], sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Of Python and of what computes."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("overtile", "torch", "monai")}}


def commit() -> str | None:
    """The checkout's commit, with -dirty where files were changed since; None where Overtile doesn't run from a checkout."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def record_sitting(folder: Path, step: int, device: torch.device, console: Console) -> None:
    """Adds to `lineage.json` that somebody trains on from a step, on what; and says where that isn't as it was before.

    Numbers are the same to the last bit only on equal hardware, with equal versions and as many threads.
    """
    path = folder / LINEAGE
    sittings: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    now = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"cpu ({torch.backends.cpu.get_cpu_capability()})",
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "commit": commit(),
    }
    if step and sittings:
        changed = [f"{key} {sittings[-1].get(key)} -> {value}" for key, value in now.items() if sittings[-1].get(key) != value]
        if changed:
            console.print(
                f"{folder.name}: goes on with another {'; '.join(changed)}; last digits may differ from those of one sitting",
                style="bold yellow",
            )
    sittings.append({"started": datetime.now(UTC).isoformat(timespec="seconds"), "step": step, **now})
    publish(path, lambda part: part.write_text(json.dumps(sittings, indent=2) + "\n"))


def _differences(old: dict[str, Any], new: dict[str, Any]) -> set[str]:
    keys = {(section, key) for values in (old, new) for section, content in values.items() for key in content}
    return {f"{section}.{key}" for section, key in keys if old[section].get(key) != new[section].get(key)}
