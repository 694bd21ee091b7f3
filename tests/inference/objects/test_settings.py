"""Settings of objects at the spacing of an image."""

from pathlib import Path

import pytest

from configs.schema import Config, load
from imaging.errors import UnsuitableImage
from inference.objects.settings import object_settings

CLEAN_UP = ["inference.smallest_object_px=30", "inference.largest_hole_px=9", "inference.opening_radius_px=2"]


def config_of(*overrides: str) -> Config:
    return load(Path("configs/histology_unet.yaml"), ["data.spacing_um=[0.5,0.5]", *CLEAN_UP, *overrides])


def sizes(config: Config, spacing_um: tuple[float, ...] | None) -> tuple[float, ...]:
    section = object_settings(config, spacing_um)
    return (section.object_sigma_px, section.smallest_object_px, section.largest_hole_px, section.opening_radius_px)


def test_sizes_are_converted_to_the_spacing_of_the_image() -> None:
    assert sizes(config_of(), (0.25, 0.25)) == (8, 120, 36, 4)
    assert sizes(config_of(), (1.0, 1.0)) == (2, 8, 2, 1)
    assert sizes(config_of(), (0.5, 0.125)) == (8, 120, 36, 4)
    assert sizes(config_of("inference.opening_radius_px=90"), (0.1, 0.1))[3] == 100


@pytest.mark.parametrize("spacing_um", [None, (0.5, 0.5), (0.52, 0.47)])
def test_sizes_stay_at_the_trained_or_an_unknown_spacing(spacing_um: tuple[float, ...] | None) -> None:
    assert sizes(config_of(), spacing_um) == (4, 30, 9, 2)
    assert sizes(config_of("data.spacing_um=null"), spacing_um) == (4, 30, 9, 2)


def test_detections_need_a_spacing() -> None:
    config = config_of("data.spacing_um=null", "inference.objects=peaks", "inference.peak_radius_um=7.5")
    with pytest.raises(UnsuitableImage, match="detections lie within a radius in micrometres; give it") as refusal:
        object_settings(config, None)
    assert refusal.value.code == "resolution_unknown"
    assert object_settings(config, (0.3, 0.3)).peak_radius_um == 7.5
