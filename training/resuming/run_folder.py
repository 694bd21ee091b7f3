"""The folder of a run: locked by one process, and tied to the config and to the data that the run began with."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs import schema
from configs.schema import Config, ConfigError
from disk import lock
from disk.publish import publish
from imaging.errors import DataError
from models import bundle
from training.data.examination import Digests

LOCK_FILE, DIGESTS_FILE = "lock", "data.json"  # in the run's folder
CHANGEABLE_KEYS = {  # of the config, between two sessions of a run: they change no weight
    "trainer.workers",
    "trainer.max_minutes",
    "trainer.cache_mib",
    "trainer.checkpoint_minutes",
    "trainer.calibrate",
}


@contextmanager
def lock_run_folder(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, so that one process at a time trains in it.

    Raises:
        ConfigError: another process holds it.
    """
    try:
        with lock.only_one(folder / LOCK_FILE):
            yield
    except lock.Held as error:
        raise ConfigError(
            f"{folder}: another training is running here (process {error.process}); wait for it, stop it, or choose "
            "another run.name"
        ) from error


def write_or_check_config(folder: Path, config: Config) -> None:
    """Write the resolved config into a new run's folder, or check that it matches the one there.

    Keys that change no weight may differ: the file is then replaced.

    Raises:
        ConfigError: the folder holds a run with another config.
    """
    path = folder / bundle.CONFIG
    if path.exists():
        old, new = schema.load(path).model_dump(), config.model_dump()
        keys = {(section, key) for values in (old, new) for section, content in values.items() for key in content}
        differences = {f"{section}.{key}" for section, key in keys if old[section].get(key) != new[section].get(key)}
        changes = sorted(differences - CHANGEABLE_KEYS)
        if changes:
            raise ConfigError(f"{folder} holds a run with another {', '.join(changes)}; choose another run.name")
    publish(path, lambda part: part.write_text(schema.dump(config)))


def write_or_check_digests(folder: Path, digests: Digests) -> None:
    """Write the digests of the cases' files into a new run's folder, or check that they match those there.

    Raises:
        DataError: `data_changed`, with the names of the cases.
    """
    path = folder / DIGESTS_FILE
    if not path.exists():
        publish(path, lambda part: part.write_text(json.dumps(digests, indent=2) + "\n"))
        return
    original = {case: tuple(files) for case, files in json.loads(path.read_text()).items()}
    changes = sorted(case for case in original.keys() | digests.keys() if original.get(case) != digests.get(case))
    if changes:
        raise DataError(
            "data_changed",
            f"{folder}: files of {', '.join(changes)} changed since the run began; restore them, or choose another run.name",
        )


def run_digest(config: Config, digests: Digests) -> str:
    """Return a SHA-256 of everything that determines a run's weights: its config and its data."""
    values = config.model_dump(mode="json")
    for key in CHANGEABLE_KEYS:
        section, name = key.split(".")
        del values[section][name]
    return hashlib.sha256(json.dumps([values, digests], sort_keys=True).encode()).hexdigest()
