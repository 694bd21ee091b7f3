"""Checks between sections of the config: every error names the key and what to do."""

from pathlib import Path

import pytest

from configs.schema import ConfigError, load


def test_hard_negatives_are_the_sliding_window_s() -> None:
    with pytest.raises(ConfigError, match=r"sampling\.hard_negative_share: only the sliding window .* set it to 0 for a U-Net"):
        load(Path("configs/histology_unet.yaml"), ["sampling.hard_negative_share=0.2"])


def test_hard_negatives_need_a_background() -> None:
    values = ["head.kind=regression", 'data.classes=[{name: density, colour: "#ffffff"}]']
    window = Path("configs/histology_sliding_window.yaml")
    load(window, values)
    with pytest.raises(ConfigError, match=r"sampling\.hard_negative_share: head\.kind regression has no background to mine"):
        load(window, [*values, "sampling.hard_negative_share=0.2"])


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (["model.strides=[[2,2],[2,2],[2,1]]"], "model.kernels or model.strides"),
        (["model.kernels=[[3,1],[3,3],[3,3],[3,3]]"], "model.kernels or model.strides"),
        (["data.spacing_um=[0.5,0.25]"], "data.spacing_um"),
    ],
)
def test_turns_need_rows_and_columns_that_are_alike(overrides: list[str], keys: str) -> None:
    config = Path("configs/histology_unet.yaml")
    for average in ("none", "flips"):
        load(config, [*overrides, f"inference.average={average}"])
    with pytest.raises(
        ConfigError, match=f"inference.average: flips_and_turns turns .*, and they differ in {keys}; choose flips"
    ):
        load(config, [*overrides, "inference.average=flips_and_turns"])


def test_turns_ask_nothing_of_the_first_axis_of_a_volume() -> None:
    volume = ["data.spacing_um=[3000,1000,1000]", "augment.flips=true", "inference.average=flips_and_turns"]
    assert load(Path("configs/mri_unet.yaml"), volume).inference.average == "flips_and_turns"


@pytest.mark.parametrize("off", ["augment.flips=false", "augment.probability=0"])
def test_nobody_averages_over_what_training_never_saw(off: str) -> None:
    config = Path("configs/histology_unet.yaml")
    load(config, [off])
    with pytest.raises(ConfigError, match=r"inference\.average: flips averages over mirror images, but training has none; set"):
        load(config, [off, "inference.average=flips"])


@pytest.mark.parametrize(("key", "value", "plain"), [("frozen_steps", 5, 0), ("encoder_rate", 0.1, 1)])
def test_an_encoder_of_random_weights_is_not_held_back(key: str, value: float, plain: int) -> None:
    config = Path("configs/histology_unet.yaml")
    load(config, [f"warm_start.{key}={value}", "warm_start.weights=runs/a/bundle"])
    with pytest.raises(ConfigError, match=rf"{key}: {value} would hold back .*, or set warm_start\.{key} to {plain}$"):
        load(config, [f"warm_start.{key}={value}"])


def test_one_fold_is_refused() -> None:
    config = Path("configs/histology_unet.yaml")
    assert load(config, ["trainer.folds=2"]).trainer.folds == 2
    with pytest.raises(ConfigError, match=r"trainer\.folds: 1 fold leaves nothing to train on; set it to 0 .* or to 2 or more"):
        load(config, ["trainer.folds=1"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["image_label.classes=[a]"],
            r"image_label\.classes: \['a'\] doesn't tell images apart; give two or more different names",
        ),
        (["image_label.classes=[a,b,a]"], r"image_label\.classes: .* give two or more different names, or \[\]"),
        (
            ["image_label.classes=[a,' b']"],
            r"image_label\.classes: ' b' begins or ends with a space or has unprintable characters",
        ),
        (['image_label.classes=[a,"b\\n"]'], r"image_label\.classes: 'b\\n' begins or ends with a space or has unprintable"),
        (
            ["image_label.classes=[a,b]", "image_label.map_size=3"],
            r"image_label\.map_size: 3 is halved between 3 convolutions; give 4 or more, or fewer image_label\.map_features",
        ),
        (
            ["image_label.classes=[a,b]", "data.classes=[{name: age, colour: '#ffffff'}]", "head.kind=regression"],
            r"image_label\.by: map needs class probabilities, and head\.kind regression gives none; set it to joint",
        ),
    ],
)
def test_labels_of_whole_images(overrides: list[str], message: str) -> None:
    config = Path("configs/histology_unet.yaml")
    with pytest.raises(ConfigError, match=message):
        load(config, overrides)
    load(config, [*overrides, "image_label.classes=[]"])
    assert load(config, ["image_label.classes=[a,b]", "image_label.by=joint", "image_label.map_size=1"])


def test_peaks_need_a_radius_and_probabilities() -> None:
    config = Path("configs/histology_unet.yaml")
    peaks = ["inference.objects=peaks", "inference.peak_radius_um=7.5"]
    assert load(config, peaks).inference.peak_threshold == 0.5
    with pytest.raises(ConfigError, match=r"inference\.peak_radius_um: missing; .* in micrometres, for example 7\.5"):
        load(config, peaks[:1])
    values = ["head.kind=regression", 'data.classes=[{name: density, colour: "#ffffff"}]']
    with pytest.raises(ConfigError, match=r"inference\.objects: .* head\.kind regression gives none; choose components"):
        load(config, [*peaks, *values])
