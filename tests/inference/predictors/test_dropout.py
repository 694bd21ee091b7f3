"""Dropout passes: they disagree where the network is uncertain, are reproducible, and leave the network unchanged."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from small_bundles import Picture, logits_of
from typer.testing import CliRunner

from configs import schema
from inference.predictors.ensemble import Ensemble, load_ensemble
from inference.segment import segment_array
from models import bundle
from models.architectures import build
from models.bundle import Bundle
from models.errors import BundleError
from overtile import app
from tests.manifest_facts import FACTS
from tests.phantom import write_slide_dataset

CPU = torch.device("cpu")
SMALL = ("model.features=[4,8]", "sampling.patch_size=[16,16]", "inference.tile_size=[48,48]")


def make_bundle(folder: Path, *overrides: str) -> Bundle:
    config = schema.load(Path("configs/histology_unet.yaml"), (*SMALL, *overrides))
    torch.manual_seed(0)
    bundle.write(folder, build(config).eval(), config, class_prior=(0.7, 0.3), **FACTS)
    return bundle.load(folder)


def passes_of(loaded: Bundle, passes: int = 4) -> Ensemble:
    ensemble = load_ensemble([loaded], CPU, disagreement=True, dropout_passes=passes)
    assert isinstance(ensemble, Ensemble)
    return ensemble


def test_each_pass_is_another_network_and_the_same_each_time(tmp_path: Path) -> None:
    ensemble = passes_of(make_bundle(tmp_path / "bundle", "model.dropout=0.5"))
    logits = [logits_of(member) for member in ensemble.members]
    again = [logits_of(member) for member in ensemble.members]
    for number, (first, second) in enumerate(zip(logits, again, strict=True)):
        np.testing.assert_array_equal(first, second)
        assert all(not np.array_equal(first, other) for other in logits[:number])
    assert len({member.identity for member in ensemble.members}) == 4


def test_a_patch_doesnt_depend_on_its_batch(tmp_path: Path) -> None:
    member = passes_of(make_bundle(tmp_path / "bundle", "model.dropout=0.5")).members[1]
    patches = np.random.default_rng(0).random((3, 3, 48, 48), np.float32)
    together = member(patches)
    alone = np.concatenate([member(patch[None]) for patch in patches])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)


def test_the_network_and_torchs_generator_stay_as_they_were(tmp_path: Path) -> None:
    loaded = make_bundle(tmp_path / "bundle", "model.dropout=0.5")
    before = segment_array(Picture(), load_ensemble([loaded], CPU))
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    segment_array(Picture(), passes_of(loaded))
    assert torch.equal(torch.rand(1), expected)
    np.testing.assert_array_equal(segment_array(Picture(), load_ensemble([loaded], CPU)), before)


def test_more_dropout_more_disagreement(tmp_path: Path) -> None:
    said = []
    for share in (0.05, 0.5):
        ensemble = passes_of(make_bundle(tmp_path / str(share), f"model.dropout={share}"), passes=8)
        logits = [logits_of(member) for member in ensemble.members]
        said.append(float(ensemble.disagreement(logits).mean()))
    assert 0 < said[0] < said[1] < 1


def test_a_network_without_dropout_is_refused(tmp_path: Path) -> None:
    loaded = make_bundle(tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"trained without dropout.*model\.dropout=0\.2, give several bundles, or leave"):
        passes_of(loaded)
    with pytest.raises(BundleError, match=r"1 dropout passes have nothing to compare; choose 2 or more"):
        passes_of(loaded, 1)
    with pytest.raises(BundleError, match=r"openvino leaves dropout out; choose torch, or leave --dropout-passes out"):
        load_ensemble([loaded], CPU, "openvino", dropout_passes=4)


def test_the_command_line_writes_the_map(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle", "model.dropout=0.5")
    images = write_slide_dataset(tmp_path / "data", cases=1, shape=(70, 60)).parent / "images"
    words = ["predict", str(images), "-b", str(tmp_path / "bundle"), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*words, "--dropout-passes", "3", "--disagreement"])
    assert done.exit_code == 0, done.output
    (path,) = (tmp_path / "out").glob("*disagreement*")
    ensemble = tifffile.imread(path)
    assert ensemble.shape == (70, 60)
    assert 0 < ensemble.mean() < 1
