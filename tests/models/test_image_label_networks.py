"""Networks for the label of a whole image: their weights, and dense evaluation equals window by window."""

from pathlib import Path

import pytest
import torch

from configs import schema
from configs.schema import Config
from models import bundle
from models.architectures import ENCODER, build, build_classifier
from models.image_label_heads import MapClassifier
from models.sliding_window import SlidingWindow
from tests.manifest_facts import FACTS

LABELS = "image_label.classes=[nevus, melanoma, other]"
SMALL = {
    "unet": ("sampling.patch_size=[16,16]", "model.features=[4,8]", "model.deep_supervision=true"),
    "sliding_window": ("model.window=11", "model.convolutions=[{features: 4, kernel: 4}]", "model.hidden=8"),
}


def config_of(method: str, *overrides: str) -> Config:
    return schema.load(Path(f"configs/histology_{method}.yaml"), [LABELS, *SMALL[method], *overrides])


@pytest.mark.parametrize("method", SMALL)
def test_the_second_head_is_part_of_the_network_and_of_its_bundle(method: str, tmp_path: Path) -> None:
    config = config_of(method, "image_label.by=joint")
    network = build(config).eval()
    images = torch.randn(2, 3, *config.patch_size)
    label = network.outputs(images).label
    assert label is not None
    assert label.shape == (2, 3)
    kept = [name for name in network.state_dict() if name.startswith("label_head.")]
    assert kept
    assert not any(name.startswith(ENCODER) for name in kept)  # a warm start of the encoder leaves it out
    bundle.write(tmp_path / "bundle", network, config, class_prior=(0.9, 0.1), **FACTS)
    torch.testing.assert_close(bundle.load(tmp_path / "bundle").network.outputs(images).label, label, rtol=0, atol=0)


@pytest.mark.parametrize("method", SMALL)
def test_without_labels_and_by_the_map_there_is_no_second_head(method: str) -> None:
    for overrides in (("image_label.by=map",), ("image_label.by=joint", "image_label.classes=[]")):
        config = config_of(method, *overrides)
        network = build(config).eval()
        assert network.outputs(torch.randn(1, 3, *config.patch_size)).label is None
        assert not any("label" in name for name in network.state_dict())


@pytest.mark.parametrize("foveation_px", [0, 2])
def test_a_window_s_label_is_the_same_densely(foveation_px: int) -> None:
    network = build(config_of("sliding_window", "image_label.by=joint", f"model.foveation_px={foveation_px}")).eval()
    assert isinstance(network, SlidingWindow)
    image = torch.randn(1, 3, 14, 13)
    dense = network.dense(image)  # (1, 2 + 3, 4, 3)
    assert dense.shape == (1, 5, 4, 3)
    outputs = network.outputs(image[..., 2:13, 1:12])
    torch.testing.assert_close(dense[..., 2, 1], torch.cat([outputs.logits[0], outputs.label], dim=1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_classifier_takes_maps_and_says_labels(dimensions: int) -> None:
    classifier = MapClassifier(dimensions, classes=3, labels=4, features=(5, 6))
    assert classifier(torch.rand(2, 3, *[8] * dimensions)).shape == (2, 4)


def test_a_classifier_lies_beside_its_network_in_a_bundle_and_in_an_ensembles(tmp_path: Path) -> None:
    config = config_of("unet", "image_label.map_size=8")
    maps = torch.rand(1, 2, 8, 8)
    said = []
    for number in range(2):
        classifier = build_classifier(config).eval()
        said.append(classifier(maps))
        bundle.write(tmp_path / str(number), build(config), config, classifier=classifier, class_prior=(0.9, 0.1), **FACTS)
    assert {path.name for path in (tmp_path / "0").iterdir()} == {"weights.safetensors", "config.yaml", "manifest.json"}
    members = [bundle.load(tmp_path / str(number)) for number in range(2)]
    bundle.write_ensemble(tmp_path / "both", members, config, class_prior=(0.9, 0.1), **FACTS)
    for found in (members, [bundle.load(tmp_path / "both")]):
        classifiers = [classifier for each in found for classifier in each.classifiers]
        torch.testing.assert_close([classifier(maps) for classifier in classifiers], said, rtol=0, atol=0)
