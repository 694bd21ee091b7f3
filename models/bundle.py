"""The bundle: a folder with weights.safetensors, config.yaml and manifest.json; all that training hands to serving.

An ensemble's bundle has weights-0.safetensors, weights-1.safetensors and so on: networks of one config, whose logits are
averaged. What reads an image's label off the network's map lies in the same file, its names begin with `map_classifier.`.

sample.safetensors is a piece of a validation image and what the networks made of it on the machine that trained them, by
which every other way of running them is measured.
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from configs import schema
from configs.schema import Config
from configs.sections import NAME_PATTERN, ClassSection
from models.architectures import Network, build, build_classifier
from models.errors import BundleError
from models.image_label_heads import MapClassifier

FORMAT_VERSION = 3  # 1 and 2 are read, too: 1 knew no ensembles, neither had a sample
WEIGHTS, CONFIG, MANIFEST, SAMPLE = "weights.safetensors", "config.yaml", "manifest.json", "sample.safetensors"
CLASSIFIER = "map_classifier."  # names of its weights begin so


class Manifest(BaseModel):
    """What is known of a trained network, written by training and checked by everybody who loads it.

    `class_prior` is each class's share of the training pixels, `training_images` the SHA-256 of the images that
    training saw (validation cases included), `validation` metric -> mean over the validation cases, `files` the
    SHA-256 of the bundle's other files. `member_priors` is the class prior of each network of an ensemble, whose
    `class_prior` is their mean; of a single network it is empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1, 2, 3]
    name: Annotated[str, Field(pattern=NAME_PATTERN)]  # becomes a part of paths
    created: str
    method: Literal["unet", "sliding_window"]
    dimensions: Literal[2, 3]
    channels: tuple[str, ...]
    classes: tuple[ClassSection, ...]
    spacing_um: tuple[float, ...] | None
    margin_px: tuple[int, int]
    class_prior: tuple[float, ...]
    member_priors: tuple[tuple[float, ...], ...] = ()
    validation: dict[str, float]
    training_steps: int
    training_seconds: float
    training_images: tuple[str, ...]
    versions: dict[str, str]
    commit: str | None
    intended_use: str
    files: dict[str, str]


class Sample(NamedTuple):
    """A question to the networks, with its answers in float32.

    Args:
        patches: (1, C, *S), normalised.
        logits: (N, R, *S'), one a network.
    """

    patches: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory; its networks are in evaluation mode on the CPU: one, or those of an ensemble.

    `classifiers` read an image's label off the map of its probabilities: one a network, or none. `sample` is None where the
    bundle was written without one.
    """

    folder: Path
    config: Config
    manifest: Manifest
    networks: tuple[Network, ...]
    classifiers: tuple[MapClassifier, ...] = ()
    sample: Sample | None = None

    @property
    def network(self) -> Network:
        """The only network.

        Raises:
            BundleError: it is an ensemble.
        """
        if len(self.networks) > 1:
            raise BundleError(f"{self.folder}: an ensemble of {len(self.networks)} networks; give the bundle of one network")
        return self.networks[0]

    @property
    def class_priors(self) -> tuple[tuple[float, ...], ...]:
        """Of each network."""
        return self.manifest.member_priors or (self.manifest.class_prior,)


def write(
    folder: Path,
    network: Network,
    config: Config,
    *,
    classifier: MapClassifier | None = None,
    sample: Sample | None = None,
    **facts: object,
) -> Manifest:
    """Writes a bundle, whole or not at all: it is made beside `folder` and renamed; `facts` are the manifest's other fields.

    Raises:
        FileExistsError: there is something at `folder`.
    """
    return _write(folder, {WEIGHTS: _tensors(network, classifier), **_as_file(sample)}, config, facts)


def write_ensemble(
    folder: Path, members: Sequence[Bundle], config: Config, *, sample: Sample | None = None, **facts: object
) -> Manifest:
    """Writes several bundles' networks as one bundle, as `write` does; all are of one config but for their run's name.

    Raises:
        FileExistsError: there is something at `folder`.
    """
    tensors = [_tensors(member.network, *member.classifiers) for member in members]
    weights = dict(zip(_weights_files(len(members)), tensors, strict=True))
    priors = [member.manifest.class_prior for member in members]
    return _write(folder, {**weights, **_as_file(sample)}, config, {"member_priors": priors, **facts})


def _weights_files(members: int) -> list[str]:
    """Of an ensemble of so many, or of a single network where there are none."""
    return [f"weights-{number}.safetensors" for number in range(members)] or [WEIGHTS]


def _tensors(network: Network, classifier: MapClassifier | None = None) -> dict[str, Tensor]:
    """What a file of weights holds, by name."""
    of_classifier = classifier.state_dict() if classifier else {}
    named = network.state_dict() | {f"{CLASSIFIER}{name}": value for name, value in of_classifier.items()}
    return {name: value.cpu().contiguous() for name, value in named.items()}


def _as_file(sample: Sample | None) -> dict[str, dict[str, Tensor]]:
    return {SAMPLE: {name: value.contiguous() for name, value in sample._asdict().items()}} if sample else {}


def _write(folder: Path, files: Mapping[str, Mapping[str, Tensor]], config: Config, facts: Mapping[str, object]) -> Manifest:
    """Tensors by their file's name."""
    if folder.exists():
        raise FileExistsError(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".bundle-") as name:
        made = Path(name) / "bundle"
        made.mkdir()
        for file, tensors in files.items():
            save_file(dict(tensors), made / file)
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
                "files": {file: sha256_of(made / file) for file in (*files, CONFIG)},
                **facts,
            }
        )
        (made / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
        for path in made.iterdir():
            _fsync(path)
        made.rename(folder)
        _fsync(folder.parent)
    return manifest


def load(folder: Path) -> Bundle:
    """A bundle whose every byte is the one that was written.

    Raises:
        BundleError: something is missing, added, changed, a link, no number, or of another version.
    """
    manifest = _read_manifest(folder)
    _check_files(folder, manifest)
    config = schema.load(folder / CONFIG)
    files = _weights_files(len(manifest.member_priors))
    members = [_member(folder / file, config) for file in files]
    classifiers = tuple(classifier for _, classifier in members if classifier)
    sample = _sample(folder, config, len(members)) if SAMPLE in manifest.files else None
    return Bundle(folder, config, manifest, tuple(network for network, _ in members), classifiers, sample)


def _member(weights: Path, config: Config) -> tuple[Network, MapClassifier | None]:
    """The network in a file, and what reads its map, if that is there, too."""
    network, classifier = build(config), None
    try:
        tensors = load_file(weights)
        of_classifier = {name.removeprefix(CLASSIFIER): value for name, value in tensors.items() if name.startswith(CLASSIFIER)}
        if of_classifier:
            classifier = build_classifier(config).eval()
            classifier.load_state_dict(of_classifier)
        network.load_state_dict({name: value for name, value in tensors.items() if not name.startswith(CLASSIFIER)})
    except (SafetensorError, RuntimeError) as error:
        raise BundleError(f"{weights.parent}: the weights don't fit the config's network; train again") from error
    _check_finite(weights, tensors)
    return network.eval(), classifier


def _sample(folder: Path, config: Config, members: int) -> Sample:
    path = folder / SAMPLE
    try:
        sample = Sample(**load_file(path))
    except (SafetensorError, TypeError) as error:
        raise BundleError(f"{path}: not patches and their logits; train again") from error
    axes, channels = config.data.dimensions + 2, len(config.data.channels)
    shapes = tuple(sample.patches.shape), tuple(sample.logits.shape)
    if [len(shape) for shape in shapes] != [axes, axes] or shapes[0][:2] != (1, channels) or shapes[1][0] != members:
        expected = f"one patch of {channels} channels and {members} networks' logits"
        raise BundleError(f"{path}: {shapes} isn't {expected}; train again")
    _check_finite(path, sample._asdict())
    return sample


def _check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Whatever isn't a number makes masks that look like masks."""
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise BundleError(f"{path}: {name} holds values that are no numbers; train again")


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if folder.is_symlink() or path.is_symlink():
        raise BundleError(f"{folder}: a link, or its {MANIFEST} is one; give the folder that training wrote, or a copy of it")
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{folder}: no bundle here; give the bundle/ folder of a finished run") from error
    except ValidationError as error:
        raise BundleError(
            f"{folder}: {MANIFEST} isn't one of format 1 to {FORMAT_VERSION}; train again or use the version that wrote it"
        ) from error


def _check_files(folder: Path, manifest: Manifest) -> None:
    present = {path.name for path in folder.iterdir()}
    expected = {*_weights_files(len(manifest.member_priors)), CONFIG, MANIFEST} | (manifest.files.keys() & {SAMPLE})
    if present != expected or set(manifest.files) != expected - {MANIFEST}:
        raise BundleError(f"{folder}: holds {sorted(present)}, allowed are exactly {sorted(expected)}; copy the bundle anew")
    for name, digest in manifest.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file() or sha256_of(path) != digest:
            raise BundleError(f"{folder}: {name} isn't the file that training wrote; copy the bundle anew")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
