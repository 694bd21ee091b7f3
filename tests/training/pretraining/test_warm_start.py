"""Warm starts: which tensors are loaded, and which files are refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from configs import schema
from configs.schema import Config, ConfigError
from models import bundle
from models.architectures import Network, build
from models.errors import BundleError
from tests.manifest_facts import FACTS
from training.pretraining.warm_start import warm_start


def config_of(*overrides: str, method: str = "unet") -> Config:
    small = ("model.features=[4,8]",) if method == "unet" else ()
    return schema.load(Path(f"configs/histology_{method}.yaml"), [*small, *overrides])


def network_of(config: Config, seed: int) -> Network:
    torch.manual_seed(seed)
    return build(config)


def same(first: Network, second: Network) -> set[str]:
    """Return the names of equal tensors."""
    others = second.state_dict()
    return {name for name, value in first.state_dict().items() if value.equal(others[name])}


def write(path: Path, config: Config, seed: int = 1) -> Network:
    network = network_of(config, seed)
    for value in network.state_dict().values():  # norms and biases are initialised equally in all networks
        value.add_(1)
    save_file(network.state_dict(), path)
    return network


def test_takes_the_encoder_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    other = write(path, config_of("data.classes=[{name: a, colour: '#000000'}, {name: b, colour: '#ffffff'}]"))
    config = config_of(f"warm_start.weights={path}")
    network = network_of(config, 0)
    message = warm_start(network, config)
    encoder = {name for name in network.state_dict() if name.startswith("encoder.")}
    assert message == f"starts with {len(encoder)} of {len(encoder)} tensors of {path} (encoder)"
    assert same(network, other) == encoder


def test_takes_all_of_a_bundle(tmp_path: Path) -> None:
    plain = config_of()
    other = network_of(plain, 1)
    bundle.write(tmp_path / "bundle", other, plain, class_prior=(0.5, 0.5), **FACTS)
    config = config_of(f"warm_start.weights={tmp_path / 'bundle'}", "warm_start.part=all")
    network = network_of(config, 0)
    warm_start(network, config)
    assert same(network, other) == set(network.state_dict())
    weights = tmp_path / "bundle" / bundle.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match=r"weights.safetensors isn't the file that training wrote; copy the bundle again"):
        warm_start(network, config)


def test_the_sliding_window_has_an_encoder_too(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    other = write(path, config_of(method="sliding_window"))
    config = config_of(f"warm_start.weights={path}", method="sliding_window")
    network = network_of(config, 0)
    warm_start(network, config)
    assert {name.partition(".")[0] for name in same(network, other)} == {"convolutions", "norms"}


def test_without_weights_the_network_stays_as_it_is() -> None:
    config = config_of()
    network = network_of(config, 0)
    assert warm_start(network, config) is None
    assert same(network, network_of(config, 0)) == set(network.state_dict())


@pytest.mark.parametrize(
    ("others", "method", "overrides", "message"),
    [
        (
            ("data.channels=[grey]", "augment.stain=0"),
            "unet",
            (),
            "was trained on images with 1 channels, but data.channels has 3",
        ),
        (
            ("model.features=[4,16]",),
            "unet",
            (),
            r"encoder\.1\.0\.weight of .* has shape \(16, 4, 3, 3\), but in this network \(8, 4",
        ),
        (
            ("data.classes=[{name: a, colour: '#000000'}, {name: b, colour: '#fff000'}, {name: c, colour: '#ffffff'}]",),
            "unet",
            ("warm_start.part=all",),
            r"head\.weight of .* has shape \(3, 4, 1, 1\), but in this network \(2, 4, 1, 1\); .* as many classes if",
        ),
        ((), "sliding_window", (), "holds no tensor that this network's encoder has; give weights of the same model.name"),
    ],
)
def test_weights_of_another_network_are_refused(
    tmp_path: Path, others: tuple[str, ...], method: str, overrides: tuple[str, ...], message: str
) -> None:
    path = tmp_path / "other.safetensors"
    write(path, config_of(*others, method=method))
    config = config_of(f"warm_start.weights={path}", *overrides)
    network = network_of(config, 0)
    with pytest.raises(ConfigError, match=message):
        warm_start(network, config)
    assert same(network, network_of(config, 0)) == set(network.state_dict())


@pytest.mark.parametrize("content", [None, b"no tensors"])
def test_a_file_that_holds_no_tensors_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights"
    if content is not None:
        path.write_bytes(content)
    config = config_of(f"warm_start.weights={path}")
    with pytest.raises(ConfigError, match="can't be read; give a bundle's folder, or a safetensors file such as overtile pre"):
        warm_start(network_of(config, 0), config)
