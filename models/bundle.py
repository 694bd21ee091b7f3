"""Bundles: folders with weights.safetensors, config.yaml and manifest.json, which training writes and serving loads.

An ensemble's bundle has weights-0.safetensors, weights-1.safetensors and so on: networks of one config, whose logits are
averaged. The weights of a map classifier are in the same file, with names that begin with `map_classifier.`.

sample.safetensors holds a patch of a validation image and the networks' logits of it, computed on the machine that trained
them. Every other machine and runtime is tested against it. metrics.json holds all scores of the validation cases. Both are
optional.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from configs import schema
from configs.schema import Config
from disk.digest import sha256_of_file
from disk.publish import sync
from models.architectures import Network, build, build_classifier
from models.bundle_metrics import BundleMetrics
from models.errors import BundleError
from models.image_label_heads import MapClassifier
from models.manifest import Manifest

FORMAT_VERSION = 4  # 1 to 3 are still readable; 1 had no ensembles, 1 and 2 no sample, 1 to 3 neither calibration nor metrics
BUNDLE = "bundle"  # name of the bundle in a run's folder
WEIGHTS, CONFIG, MANIFEST, SAMPLE = "weights.safetensors", "config.yaml", "manifest.json", "sample.safetensors"
METRICS = "metrics.json"
CLASSIFIER = "map_classifier."  # prefix of the names of its weights


class Sample(NamedTuple):
    """Example input of the networks with their float32 logits.

    Args:
        patches: (1, C, *S), normalised.
        logits: (N, R, *S'), the logits of each of N networks.
    """

    patches: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Bundle:
    """Bundle in memory: one network, or those of an ensemble, on the CPU in evaluation mode.

    `classifiers` predict an image's label from its probability map: one per network, or none. `sample` and `metrics` are None
    if the bundle was written without them.
    """

    folder: Path
    config: Config
    manifest: Manifest
    networks: tuple[Network, ...]
    classifiers: tuple[MapClassifier, ...] = ()
    sample: Sample | None = None
    metrics: BundleMetrics | None = None

    @property
    def network(self) -> Network:
        """The network of a bundle that isn't an ensemble.

        Raises:
            BundleError: the bundle is an ensemble.
        """
        if len(self.networks) > 1:
            raise BundleError(f"{self.folder}: an ensemble of {len(self.networks)} networks; give the bundle of one network")
        return self.networks[0]

    @property
    def class_priors(self) -> tuple[tuple[float, ...], ...]:
        """Class prior of each network."""
        return self.manifest.member_priors or (self.manifest.class_prior,)


def write(
    folder: Path,
    network: Network,
    config: Config,
    *,
    classifier: MapClassifier | None = None,
    sample: Sample | None = None,
    metrics: BundleMetrics | None = None,
    **facts: object,
) -> Manifest:
    """Write a bundle atomically: it is written beside `folder` and then renamed.

    Args:
        folder: path of the new bundle.
        network: the trained network.
        config: config of its run.
        classifier: map classifier of the network.
        sample: example input and output.
        metrics: all scores of the validation cases.
        facts: the other fields of the manifest.

    Raises:
        FileExistsError: `folder` exists.
    """
    return _write_files(folder, {WEIGHTS: _tensors(network, classifier), **_optional_files(sample, metrics)}, config, facts)


def write_ensemble(
    folder: Path,
    members: Sequence[Bundle],
    config: Config,
    *,
    sample: Sample | None = None,
    metrics: BundleMetrics | None = None,
    **facts: object,
) -> Manifest:
    """Write the networks of several bundles as one bundle, as `write` does. Their configs differ in the run's name only.

    Raises:
        FileExistsError: `folder` exists.
    """
    tensors = [_tensors(member.network, *member.classifiers) for member in members]
    weights = dict(zip(_weights_files(len(members)), tensors, strict=True))
    priors = [member.manifest.class_prior for member in members]
    files = {**weights, **_optional_files(sample, metrics)}
    return _write_files(folder, files, config, {"member_priors": priors, **facts})


def _weights_files(members: int) -> list[str]:
    """Return the names of an ensemble's files of weights, or with 0 members that of a single network."""
    return [f"weights-{number}.safetensors" for number in range(members)] or [WEIGHTS]


def _tensors(network: Network, classifier: MapClassifier | None = None) -> dict[str, Tensor]:
    """Return the tensors of a file of weights by name."""
    classifier_weights = classifier.state_dict() if classifier else {}
    weights = network.state_dict() | {f"{CLASSIFIER}{name}": value for name, value in classifier_weights.items()}
    return {name: value.cpu().contiguous() for name, value in weights.items()}


def _optional_files(sample: Sample | None, metrics: BundleMetrics | None) -> dict[str, dict[str, Tensor] | str]:
    """Return the content of the sample's and the metrics' file by name; without the files that aren't given."""
    files: dict[str, dict[str, Tensor] | str] = {}
    if sample is not None:
        files[SAMPLE] = {name: value.contiguous() for name, value in sample._asdict().items()}
    if metrics is not None:
        files[METRICS] = metrics.model_dump_json(indent=1, by_alias=True) + "\n"
    return files


def _write_files(
    folder: Path, files: Mapping[str, Mapping[str, Tensor] | str], config: Config, facts: Mapping[str, object]
) -> Manifest:
    """Write a bundle with these files, tensors or text by name, and return its manifest."""
    if folder.exists():
        raise FileExistsError(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".bundle-") as name:
        partial = Path(name) / "bundle"
        partial.mkdir()
        for file, content in files.items():
            if isinstance(content, str):
                (partial / file).write_text(content, encoding="utf-8")
            else:
                save_file(dict(content), partial / file)
        (partial / CONFIG).write_text(schema.dump(config))
        manifest = Manifest.model_validate(
            {
                "format_version": FORMAT_VERSION,
                "name": config.run.name,
                "method": config.model.name,
                "dimensions": config.data.dimensions,
                "channels": config.data.channels,
                "classes": config.data.classes,
                "spacing_um": config.data.spacing_um,
                "files": {file: sha256_of_file(partial / file) for file in (*files, CONFIG)},
                **facts,
            }
        )
        (partial / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
        for path in partial.iterdir():
            sync(path)
        partial.rename(folder)
        sync(folder.parent)
    return manifest


def load(folder: Path) -> Bundle:
    """Load a bundle, and check that it consists of the files that training wrote.

    Args:
        folder: bundle, or folder of the run that wrote it.

    Raises:
        BundleError: a file is missing, unexpected, changed or a link, the format's version is unknown, or the weights don't
            fit the network or are NaN or infinite.
    """
    if not (folder / MANIFEST).exists() and (folder / BUNDLE).exists():
        folder = folder / BUNDLE
    manifest = read_manifest(folder)
    _check_files(folder, manifest)
    config = schema.load(folder / CONFIG)
    files = _weights_files(len(manifest.member_priors))
    members = [_load_member(folder / file, config) for file in files]
    classifiers = tuple(classifier for _, classifier in members if classifier)
    sample = _load_sample(folder, config, len(members)) if SAMPLE in manifest.files else None
    try:
        metrics = BundleMetrics.model_validate_json((folder / METRICS).read_bytes()) if METRICS in manifest.files else None
    except ValidationError as error:
        raise BundleError(f"{folder}: {METRICS} doesn't hold scores of validation cases; train again") from error
    return Bundle(folder, config, manifest, tuple(network for network, _ in members), classifiers, sample, metrics)


def _load_member(weights: Path, config: Config) -> tuple[Network, MapClassifier | None]:
    """Return the network in a file of weights, and its map classifier if the file has one."""
    network, classifier = build(config), None
    try:
        tensors = load_file(weights)
        classifier_weights = {
            name.removeprefix(CLASSIFIER): value for name, value in tensors.items() if name.startswith(CLASSIFIER)
        }
        if classifier_weights:
            classifier = build_classifier(config).eval()
            classifier.load_state_dict(classifier_weights)
        network.load_state_dict({name: value for name, value in tensors.items() if not name.startswith(CLASSIFIER)})
    except (SafetensorError, RuntimeError) as error:
        raise BundleError(f"{weights.parent}: the weights don't fit the config's network; train again") from error
    _check_finite(weights, tensors)
    return network.eval(), classifier


def _load_sample(folder: Path, config: Config, members: int) -> Sample:
    """Return the sample of a bundle of so many networks."""
    path = folder / SAMPLE
    try:
        sample = Sample(**load_file(path))
    except (SafetensorError, TypeError) as error:
        raise BundleError(f"{path}: doesn't hold patches and their logits; train again") from error
    axes, channels = config.data.dimensions + 2, len(config.data.channels)
    shapes = tuple(sample.patches.shape), tuple(sample.logits.shape)
    if [len(shape) for shape in shapes] != [axes, axes] or shapes[0][:2] != (1, channels) or shapes[1][0] != members:
        expected = f"one patch of {channels} channels and the logits of {members} networks"
        raise BundleError(f"{path}: has shapes {shapes}, expected {expected}; train again")
    _check_finite(path, sample._asdict())
    return sample


def _check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse NaN and infinite values, whose masks would look like masks."""
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise BundleError(f"{path}: {name} holds NaN or infinite values; train again")


def read_manifest(folder: Path) -> Manifest:
    """Read and validate the manifest of a bundle, without its other files.

    Raises:
        BundleError: there is none, it is a link, or its format is unknown.
    """
    path = folder / MANIFEST
    if folder.is_symlink() or path.is_symlink():
        raise BundleError(
            f"{folder}: the folder or its {MANIFEST} is a link; give the folder that training wrote, or a copy of it"
        )
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        problem = "no bundle here; give the folder of a finished run, or its bundle/"
        if (folder / "checkpoints").exists():
            problem = "the run isn't finished, so it has no bundle yet; run its overtile train again to finish it"
        raise BundleError(f"{folder}: {problem}") from error
    except ValidationError as error:
        raise BundleError(
            f"{folder}: {MANIFEST} isn't of format 1 to {FORMAT_VERSION}; train again, or use the version that wrote it"
        ) from error


def _check_files(folder: Path, manifest: Manifest) -> None:
    """Refuse files that are missing, unexpected, links, or of another digest than in the manifest."""
    present = {path.name for path in folder.iterdir()}
    expected = {*_weights_files(len(manifest.member_priors)), CONFIG, MANIFEST} | (manifest.files.keys() & {SAMPLE, METRICS})
    if present != expected or set(manifest.files) != expected - {MANIFEST}:
        raise BundleError(f"{folder}: holds {sorted(present)}, expected exactly {sorted(expected)}; copy the bundle again")
    for name, digest in manifest.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file() or sha256_of_file(path) != digest:
            raise BundleError(f"{folder}: {name} isn't the file that training wrote; copy the bundle again")
