"""Section `augment`: contradictions with the data or within it are refused; every error names the key and what to do."""

from pathlib import Path

import pytest

from configs import schema
from configs.schema import ConfigError
from configs.sections import AugmentSection


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        (
            "mri_unet",
            ["augment.stain=0.1"],
            "augment.stain: needs 2D images of 3 channels (red, green, blue), and data has 3 dimensions and 1 channels; "
            "set augment.stain to 0",
        ),
        (
            "histology_unet",
            ["augment.stain=0.1", "data.channels=[grey]"],
            "and data has 2 dimensions and 1 channels; set augment.stain to 0",
        ),
        (
            "histology_unet",
            ["augment.quarter_turns=true", "sampling.patch_size=[64,128]"],
            "augment.quarter_turns: needs patches with as many rows as columns, and the patch size is [64, 128]; "
            "make its last two values equal, or set augment.quarter_turns to false",
        ),
        (
            "histology_unet",
            ["augment.restyle=0.5"],
            "augment: restyle 0.5 needs images to take styles from; name their folder in style_bank, or set restyle to 0",
        ),
        ("mri_unet", ["augment.remap=1.5"], "augment.remap: Input should be less than or equal to 1; got 1.5"),
        ("mri_unet", ["augment.elastic_points=1"], "augment.elastic_points: Input should be greater than or equal to 2; got 1"),
        ("mri_unet", ["augment.shear_degrees=60"], "augment.shear_degrees: Input should be less than or equal to 45; got 60"),
    ],
)
def test_refused(name: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        schema.load(Path(f"configs/{name}.yaml"), overrides)
    assert message in str(caught.value)


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_yaml_names_every_key_of_augmentation(path: Path) -> None:
    text = path.read_text()
    assert [key for key in AugmentSection.model_fields if f"\n  {key}: " not in text] == []


def test_stain_and_styles_where_they_fit() -> None:
    overrides = ["augment.stain=0.1", "augment.restyle=0.5", "augment.style_bank=styles", "augment.quarter_turns=true"]
    assert schema.load(Path("configs/histology_unet.yaml"), overrides).augment.style_bank == Path("styles")
