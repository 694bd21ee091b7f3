"""Ensembles: the mean of a bundle's networks, and of bundles whose tiles differ."""

from itertools import accumulate, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax
from small_bundles import CPU, Picture, logits_of, make_bundle
from typer.testing import CliRunner

from configs.schema import Config
from evaluation.comparison.compare import compare
from imaging.open import open_image
from inference.plan import plan_image
from inference.predictors.ensemble import Ensemble, load_ensemble, mean_bands
from inference.predictors.loading import load_predictor
from inference.predictors.mean import MeanPredictor
from inference.predictors.predictor import Predictor
from inference.segment import Observers, bands, segment_array
from inference.tiling.stitch import Band
from models import bundle
from models.errors import BundleError
from models.heads import HEADS
from overtile import app
from tests.manifest_facts import FACTS
from tests.phantom import write_slide_dataset


def write_ensemble(folder: Path, members: list[bundle.Bundle], config: Config) -> bundle.Bundle:
    bundle.write_ensemble(folder, members, config, class_prior=(0.7, 0.3), **FACTS)
    return bundle.load(folder)


@pytest.mark.parametrize("name", ["unet", "sliding_window"])
def test_an_ensembles_bundle_gives_the_mean_of_its_members_logits_each_with_its_own_prior(name: str, tmp_path: Path) -> None:
    members = [make_bundle(tmp_path / f"fold{seed}", seed, name, "inference.average=flips") for seed in (1, 2, 3)]
    together = write_ensemble(tmp_path / "together", members, members[0].config)
    predictor = load_predictor(together, CPU)
    assert isinstance(predictor, MeanPredictor)
    assert together.manifest.member_priors == tuple(member.manifest.class_prior for member in members)
    mean = np.mean([logits_of(load_predictor(member, CPU)) for member in members], axis=0)
    np.testing.assert_allclose(logits_of(predictor), mean, atol=1e-5)
    given_apart = load_ensemble(members, CPU)
    assert plan_image(Picture(), given_apart).tile_count == 3 * plan_image(Picture(), predictor).tile_count
    np.testing.assert_allclose(logits_of(given_apart), mean, atol=1e-5)


def test_members_of_different_tiles_are_averaged_row_by_row(tmp_path: Path) -> None:
    tiles = ([48, 48], [128, 64])
    members = [make_bundle(tmp_path / f"tiles{seed}", seed, "unet", f"inference.tile_size={tiles[seed]}") for seed in (0, 1)]
    done: list[tuple[int, int]] = []
    ensemble = load_ensemble(members, CPU)
    plan = plan_image(Picture(), ensemble)
    parts = list(bands(plan, Observers(plan, lambda *progress: done.append(progress))))
    assert [part.start for part in parts] == [0, *accumulate(part.logits.shape[1] for part in parts)][:-1]
    assert len(parts) > 2
    mean = np.mean([logits_of(load_predictor(member, CPU)) for member in members], axis=0)
    np.testing.assert_allclose(np.concatenate([part.logits for part in parts], axis=1), mean, atol=1e-6)
    tiles_in_all = plan_image(Picture(), ensemble).tile_count
    assert done == [(number, tiles_in_all) for number in range(1, tiles_in_all + 1)]


def test_of_different_methods_probabilities_are_averaged(tmp_path: Path) -> None:
    members = [make_bundle(tmp_path / "one", 1), make_bundle(tmp_path / "other", 2, "sliding_window")]
    mean = np.mean([softmax(logits_of(load_predictor(member, CPU)), axis=0) for member in members], axis=0)
    np.testing.assert_allclose(softmax(logits_of(load_ensemble(members, CPU)), axis=0), mean, atol=1e-5)


cuts = st.sets(st.integers(1, 19)).map(lambda inner: [0, *sorted(inner), 20])


@given(st.lists(cuts, min_size=1, max_size=4))
def test_bands_of_any_borders_have_one_mean(borders: list[list[int]]) -> None:
    rows = [np.random.default_rng(seed).normal(size=(2, 20, 3)).astype(np.float32) for seed in range(len(borders))]
    streams = [
        [Band(start, values[:, start:stop]) for start, stop in pairwise(cut)] for cut, values in zip(borders, rows, strict=True)
    ]

    class Mean(Ensemble):
        def mean(self, logits: Any) -> Any:
            return np.mean(logits, axis=0)

    found = list(mean_bands(Mean(()), streams))
    np.testing.assert_allclose(np.concatenate([band.logits for band in found], axis=1), np.mean(rows, axis=0), atol=1e-6)
    assert [band.start for band in found] == sorted({start for cut in borders for start in cut[:-1]})


@pytest.mark.parametrize("name", HEADS)
def test_a_heads_mean_is_that_of_what_it_gives_and_bears_any_logit(name: str) -> None:
    head = HEADS[name](3 if name not in ("sigmoid",) else 2)
    logits = [np.random.default_rng(seed).normal(0, 3, (head.outputs, 5)).astype(np.float32) for seed in range(3)]
    if name == "cumulative":  # in falling order, as probabilities puts them
        logits = [-np.sort(-each, axis=0) for each in logits]
    meaning = head.values if head.gives_values else head.probabilities
    if name == "soft_label":  # whose output is what is averaged; shares between classes aren't linear in it
        np.testing.assert_allclose(expit_of(head.mean(logits)), np.mean([expit_of(each) for each in logits], axis=0), atol=1e-6)
    elif name != "multi_label":
        np.testing.assert_allclose(meaning(head.mean(logits)), np.mean([meaning(each) for each in logits], axis=0), atol=1e-5)
    else:  # the background's is what the likeliest class leaves
        np.testing.assert_allclose(
            meaning(head.mean(logits))[1:], np.mean([meaning(each) for each in logits], axis=0)[1:], atol=1e-5
        )
    extreme = head.mean([np.full((head.outputs, 1), value, np.float32) for value in (500.0, 500.0)])
    assert np.isfinite(extreme).all()


def expit_of(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-logits)))


def test_bundles_that_mean_different_things_are_refused_with_every_difference(tmp_path: Path) -> None:
    first = make_bundle(tmp_path / "first", 1)
    other = make_bundle(
        tmp_path / "other", 1, "unet", "data.spacing_um=[0.5,0.5]", "head.kind=sigmoid", "data.channels=[green,blue,red]"
    )
    words = r"first and other differ in channels .* and green, blue, red; spacing .* and 0.5 x 0.5 um; head softmax and sigmoid"
    with pytest.raises(BundleError, match=words + ".*give bundles that were trained from the same data section and head"):
        load_ensemble([first, other])


def test_an_ensembles_bundle_keeps_to_the_contract(tmp_path: Path) -> None:
    members = [make_bundle(tmp_path / f"fold{seed}", seed) for seed in (1, 2)]
    together = write_ensemble(tmp_path / "together", members, members[0].config)
    names = {path.name for path in together.folder.iterdir()}
    assert names == {"weights-0.safetensors", "weights-1.safetensors", "config.yaml", "manifest.json"}
    with pytest.raises(BundleError, match=r"an ensemble of 2 networks; give the bundle of one network"):
        together.network  # noqa: B018
    weights = tmp_path / "together" / "weights-1.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleError, match=r"weights-1\.safetensors isn't the file that training wrote"):
        bundle.load(tmp_path / "together")


def test_predict_takes_several_bundles_and_compare_counts_each_network(tmp_path: Path) -> None:
    data = write_slide_dataset(tmp_path / "data", cases=3, shape=(40, 50)).parent
    members = [make_bundle(tmp_path / f"fold{seed}", seed) for seed in (1, 2)]
    together = write_ensemble(tmp_path / "together", members, members[0].config)
    image = data / "images" / "case000.png"
    words = ["predict", str(image), "-o", str(tmp_path / "out"), *(f"--bundle={member.folder}" for member in members)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    with open_image(image) as source:
        expected = segment_array(source, load_predictor(together, CPU))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "case000.png")), expected)
    methods = compare((members[0].folder, together.folder), data).methods
    one, two = (method.cost for method in methods)
    assert one is not None
    assert two is not None
    assert two.parameters == 2 * one.parameters
    assert two.multiply_adds_per_pixel == 2 * one.multiply_adds_per_pixel


@settings(max_examples=40)
@given(seed=st.integers(0, 99), members=st.integers(2, 4), name=st.sampled_from(["softmax", "sigmoid", "cumulative"]))
def test_networks_that_say_the_same_dont_disagree_and_sure_opposites_do(seed: int, members: int, name: str) -> None:
    head = HEADS[name](2)
    ensemble = Ensemble((cast(Predictor, SimpleNamespace(head=head)),) * members, gives_disagreement=True)
    logits = np.random.default_rng(seed).normal(size=(head.outputs, 5, 4)).astype(np.float32)
    np.testing.assert_allclose(ensemble.disagreement([logits] * members), 0, atol=1e-5)
    found = ensemble.disagreement(
        [logits, *(np.random.default_rng(seed + each).normal(size=logits.shape) for each in range(1, members))]
    )
    assert found.shape == (5, 4)
    assert found.min() >= 0
    assert 0 < found.max() <= 1
    sure = np.broadcast_to(head.nothing.reshape(-1, 1, 1), logits.shape).astype(np.float32)
    opposite = -sure if head.outputs == 1 else sure[::-1]
    np.testing.assert_allclose(ensemble.disagreement([sure, opposite]), 1, atol=1e-4)


def test_how_far_networks_are_apart_is_written_for_bundles_and_for_folds(tmp_path: Path) -> None:
    members = [make_bundle(tmp_path / name, number) for number, name in enumerate("ab")]
    together = write_ensemble(tmp_path / "folds", members, members[0].config)
    Image.fromarray(np.moveaxis(Picture().pixels, 0, -1)).save(tmp_path / "picture.png")
    maps = []
    for name, folders in {"bundles": [each.folder for each in members], "folds": [together.folder]}.items():
        words = [word for folder in folders for word in ("-b", str(folder))]
        out = tmp_path / f"{name} out"
        done = CliRunner().invoke(app, ["predict", str(tmp_path / "picture.png"), *words, "-o", str(out), "--disagreement"])
        assert done.exit_code == 0, done.output
        with open_image(out / "picture_disagreement.tiff") as source:
            maps.append(source.read((slice(0, 130), slice(0, 70)))[0])
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-6)
    assert 0 < maps[0].max() <= 1
    words = [
        "predict",
        str(tmp_path / "picture.png"),
        "-b",
        str(members[0].folder),
        "-o",
        str(tmp_path / "no"),
        "--disagreement",
    ]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 2
    assert "can't disagree about classes; give several bundles, one of folds" in refused.output
