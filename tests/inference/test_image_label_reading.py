"""Labels of whole images: they don't depend on tiles and bands, and their table has no formulas."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax
from small_bundles import CPU, UNET, WINDOW, Picture

from configs import schema
from inference.image_label import ImageLabel, LabelReader, MapReader, area_shares, label_classes, label_table
from inference.plan import plan_image
from inference.predictors.ensemble import load_ensemble
from inference.predictors.loading import load_predictor
from inference.predictors.predictor import Predictor
from inference.segment import Observers, bands
from inference.tiling.stitch import Band
from models import bundle
from models.architectures import build, build_classifier
from models.errors import BundleError
from models.heads import HEADS
from tests.manifest_facts import FACTS

LABELS = "image_label.classes=[nevus, melanoma]"
Floats = NDArray[np.float32]


def make_bundle(folder: Path, seed: int, method: str, *overrides: str) -> bundle.Bundle:
    small = UNET if method == "unet" else WINDOW
    config = schema.load(Path(f"configs/histology_{method}.yaml"), (*small, f"run.name={folder.name}", LABELS, *overrides))
    torch.manual_seed(seed)
    classifier = build_classifier(config) if config.image_label.by == "map" else None
    bundle.write(folder, build(config), config, classifier=classifier, class_prior=(0.7, 0.3), **FACTS)
    return bundle.load(folder)


def label_of(predictor: Any, picture: Picture) -> ImageLabel:
    labels = LabelReader(predictor, picture.shape)
    plan = plan_image(picture, predictor)
    for band in bands(plan, Observers(plan, label=labels)):
        labels.add_band(band)
    assert labels.label is not None
    return labels.label


def tiled_predictor(loaded: bundle.Bundle, side: int, average: str = "none") -> Predictor:
    inference = loaded.config.inference.model_copy(update={"tile_size": (side, side), "average": average, "batch_size": 2})
    config = loaded.config.model_copy(update={"inference": inference})
    return load_predictor(bundle.Bundle(loaded.folder, config, loaded.manifest, loaded.networks, loaded.classifiers), CPU)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_area_shares_are_overlaps(pixels: int, cells: int) -> None:
    found = area_shares(pixels, cells).toarray()
    for cell in range(cells):
        begins, ends = cell * pixels / cells, (cell + 1) * pixels / cells
        overlaps = [max(0.0, min(ends, pixel + 1) - max(begins, pixel)) * cells / pixels for pixel in range(pixels)]
        np.testing.assert_allclose(found[cell], overlaps, atol=1e-5)


def test_a_map_is_the_mean_over_areas_and_is_centred() -> None:
    logits = np.zeros((2, 8, 4), np.float32)
    logits[1, :2] = 500  # class 1 for certain; elsewhere both are as likely
    reader = MapReader(HEADS["softmax"](2), (8, 4), 4)
    reader.add(Band(0, logits))
    np.testing.assert_allclose(reader.map[1], [[0, 1, 1, 0], [0, 0.5, 0.5, 0], [0, 0.5, 0.5, 0], [0, 0.5, 0.5, 0]])
    np.testing.assert_allclose(reader.map[0], [[0, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0.5, 0.5, 0], [0, 0.5, 0.5, 0]])


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_a_map_is_the_same_however_the_bands_are_cut(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 11), min_size=2, max_size=3), label="shape"))
    ends = sorted({*data.draw(st.lists(st.integers(1, shape[0]), max_size=4), label="ends"), shape[0]})
    logits = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    cut, whole = (MapReader(HEADS["softmax"](3), shape, 5) for _ in range(2))
    for begin, end in zip([0, *ends], ends, strict=False):
        cut.add(Band(begin, logits[:, begin:end]))
    whole.add(Band(0, logits))
    np.testing.assert_allclose(cut.map, whole.map, atol=1e-6)
    probabilities = softmax(logits, axis=0).reshape(3, -1).mean(axis=1)  # cells of one image are equally large
    np.testing.assert_allclose(whole.map.sum(axis=(*range(1, whole.map.ndim),)) / whole.map.sum(), probabilities, atol=1e-5)


@pytest.mark.parametrize("average", ["none", "flips"])
def test_a_sliding_windows_label_is_its_mean_over_every_pixel_for_any_tiles(average: str, tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "joint", 1, "sliding_window", "image_label.by=joint")
    picture = Picture(33, 27)
    one, many = (label_of(tiled_predictor(made, side, average), picture) for side in (64, 20))
    np.testing.assert_allclose(many.probabilities, one.probabilities, atol=1e-6)
    assert sum(one.probabilities) == pytest.approx(1)


def test_a_u_nets_label_is_the_mean_over_tiles_by_their_outputs(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "joint", 2, "unet", "image_label.by=joint", "model.norm=none")
    picture, predictor, logits_of_tiles = Picture(56, 16), tiled_predictor(made, 32), list[Floats]()
    head = made.network.label_head
    assert head is not None
    head.register_forward_hook(lambda _, inputs, logits: logits_of_tiles.extend(logits.numpy()))
    found = label_of(predictor, picture)
    sizes = [float(np.prod([part.stop - part.start for part in tile.output])) for tile in predictor.grid(picture.shape).tiles()]
    assert len(set(sizes)) > 1
    np.testing.assert_allclose(found.probabilities, softmax(np.average(logits_of_tiles, axis=0, weights=sizes)), atol=1e-6)


@pytest.mark.parametrize("by", ["joint", "map"])
def test_several_networks_predict_one_label(by: str, tmp_path: Path) -> None:
    members = [make_bundle(tmp_path / f"n{seed}", seed, "unet", f"image_label.by={by}") for seed in (1, 2)]
    bundle.write_ensemble(tmp_path / "both", members, members[0].config, class_prior=(0.7, 0.3), **FACTS)
    picture = Picture(40, 24)
    within = label_of(load_predictor(bundle.load(tmp_path / "both"), CPU), picture)
    beside = label_of(load_ensemble(members, CPU), picture)
    assert within.classes == beside.classes == ("nevus", "melanoma")
    if by == "map":  # the same mean map, and the same two that read it
        np.testing.assert_allclose(within.probabilities, beside.probabilities, atol=1e-5)
    else:
        apart = [label_of(load_predictor(member, CPU), picture).probabilities for member in members]
        np.testing.assert_allclose(beside.probabilities, np.mean(apart, axis=0), atol=1e-6)


def test_bundles_of_other_labels_are_no_ensemble(tmp_path: Path) -> None:
    members = [
        make_bundle(tmp_path / "a", 1, "unet"),
        make_bundle(tmp_path / "b", 1, "unet", "image_label.classes=[]", "image_label.by=joint"),
    ]
    with pytest.raises(BundleError, match="labels of whole images nevus, melanoma and none"):
        load_ensemble(members, CPU)
    assert label_classes(load_predictor(members[1], CPU)) == ()
    assert LabelReader(load_predictor(members[1], CPU), (4, 4)).label is None


def test_a_table_holds_no_formulas(tmp_path: Path) -> None:
    classes = ("=1+1", 'a, "b"')
    with label_table(tmp_path / "labels.csv", classes) as note:
        note("@image.png", ImageLabel(classes, (0.75, 0.25)))
        with (tmp_path / "labels.csv").open(newline="") as file:  # a line is there as soon as its image is done
            first, second = csv.reader(file)
    assert first == ["image", "label", "probability =1+1", 'probability a, "b"']
    assert second == ["'@image.png", "'=1+1", "0.750000", "0.250000"]
    with label_table(tmp_path / "none.csv", ()):
        pass
    assert not (tmp_path / "none.csv").exists()
