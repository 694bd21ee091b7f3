"""Lineage of a run: versions, commit and hardware of each of its sessions, kept in `lineage.json`."""

import json
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from disk.publish import publish

LINEAGE_FILE = "lineage.json"  # in the run's folder


def package_versions() -> dict[str, str]:
    """Return the versions of Python, Overtile, torch and MONAI."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("overtile", "torch", "monai")}}


def checkout_commit() -> str | None:
    """Return the commit of Overtile's checkout, with -dirty where files were changed since; None outside a checkout."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def record_session(folder: Path, step: int, device: torch.device, console: Console) -> None:
    """Add a session of a run to `lineage.json`, and warn where its environment differs from the last one's.

    Weights are equal to the last bit only on equal hardware, with equal versions and as many threads.

    Args:
        folder: the run's.
        step: at which the session starts.
        device: on which it trains.
        console: takes the warning.
    """
    path = folder / LINEAGE_FILE
    sessions: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    environment = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"cpu ({torch.backends.cpu.get_cpu_capability()})",
        "threads": torch.get_num_threads(),
        "versions": package_versions(),
        "commit": checkout_commit(),
    }
    if step and sessions:
        last = sessions[-1]
        changes = [f"{key} {last.get(key)} -> {value}" for key, value in environment.items() if last.get(key) != value]
        if changes:
            console.print(
                f"{folder.name}: resumes with another {'; '.join(changes)}; the weights' last digits may differ from those of "
                "an uninterrupted run",
                style="bold yellow",
            )
    sessions.append({"started": datetime.now(UTC).isoformat(timespec="seconds"), "step": step, **environment})
    publish(path, lambda part: part.write_text(json.dumps(sessions, indent=2) + "\n"))
