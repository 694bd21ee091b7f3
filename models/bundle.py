"""The bundle: a folder with weights.safetensors, config.yaml and manifest.json; all that training hands to serving."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from configs import schema
from configs.schema import Config
from configs.sections import ClassSection
from models.errors import BundleError
from models.networks import Network, build

FORMAT_VERSION = 1
WEIGHTS, CONFIG, MANIFEST = "weights.safetensors", "config.yaml", "manifest.json"


class Manifest(BaseModel):
    """What is known of a trained network, written by training and checked by everybody who loads it.

    `class_prior` is each class's share of the training pixels, `training_images` the SHA-256 of the images that
    training saw (validation cases included), `validation` metric -> mean over the validation cases, `files` the
    SHA-256 of the bundle's other files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1]
    name: str
    created: str
    method: Literal["unet", "sliding_window"]
    dimensions: Literal[2, 3]
    channels: tuple[str, ...]
    classes: tuple[ClassSection, ...]
    spacing_um: tuple[float, ...] | None
    margin_px: tuple[int, int]
    class_prior: tuple[float, ...]
    validation: dict[str, float]
    training_steps: int
    training_seconds: float
    training_images: tuple[str, ...]
    versions: dict[str, str]
    commit: str | None
    intended_use: str
    files: dict[str, str]


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory; `network` is in evaluation mode on the CPU."""

    folder: Path
    config: Config
    manifest: Manifest
    network: Network


def write(folder: Path, network: Network, config: Config, **facts: object) -> Manifest:
    """Writes a bundle, whole or not at all: it is made beside `folder` and renamed; `facts` are the manifest's other fields.

    Raises:
        FileExistsError: there is something at `folder`.
    """
    if folder.exists():
        raise FileExistsError(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".bundle-") as name:
        made = Path(name) / "bundle"
        made.mkdir()
        save_file({key: value.cpu().contiguous() for key, value in network.state_dict().items()}, made / WEIGHTS)
        (made / CONFIG).write_text(schema.dump(config))
        manifest = Manifest.model_validate(
            {
                "format_version": FORMAT_VERSION,
                "name": config.run.name,
                "method": config.model.name,
                "dimensions": config.data.dimensions,
                "channels": config.data.channels,
                "classes": config.data.classes,
                "spacing_um": config.data.spacing_um,
                "files": {file: sha256_of(made / file) for file in (WEIGHTS, CONFIG)},
                **facts,
            }
        )
        (made / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
        for file in made.iterdir():
            _fsync(file)
        made.rename(folder)
        _fsync(folder.parent)
    return manifest


def load(folder: Path) -> Bundle:
    """A bundle whose every byte is the one that was written.

    Raises:
        BundleError: something is missing, added, changed, or of another version.
    """
    manifest = _read_manifest(folder)
    _check_files(folder, manifest)
    config = schema.load(folder / CONFIG)
    network = build(config)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        raise BundleError(f"{folder}: the weights don't fit the config's network; train again") from error
    return Bundle(folder, config, manifest, network.eval())


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(folder: Path) -> Manifest:
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise BundleError(f"{folder}: no bundle here; give the bundle/ folder of a finished run") from error
    except ValidationError as error:
        raise BundleError(
            f"{folder}: {MANIFEST} isn't one of format {FORMAT_VERSION}; train again or use the version that wrote it"
        ) from error


def _check_files(folder: Path, manifest: Manifest) -> None:
    present = {path.name for path in folder.iterdir()}
    expected = {WEIGHTS, CONFIG, MANIFEST}
    if present != expected or set(manifest.files) != expected - {MANIFEST}:
        raise BundleError(f"{folder}: holds {sorted(present)}, allowed are exactly {sorted(expected)}; copy the bundle anew")
    for name, digest in manifest.files.items():
        path = folder / name
        if path.is_symlink() or sha256_of(path) != digest:
            raise BundleError(f"{folder}: {name} isn't the file that training wrote; copy the bundle anew")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
