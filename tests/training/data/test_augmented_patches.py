"""Augmentation in training: masked borders, what patches of an image share, styles from a folder, and worker processes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from cutting import Patches
from PIL import Image
from torch.utils.data import DataLoader

from configs import schema
from configs.schema import Config
from imaging.errors import DataError
from tests.phantom import write_slide_dataset, write_volume_dataset
from training.data.styles import read_styles
from training.objective.encodings import IGNORED

OFF = (
    "rotation_degrees=0 scaling=0 elastic_px=0 flips=false brightness=0 contrast=0 gamma=0 noise=0 probability=1 "
    "remap=0 restyle=0 mask_borders=false"
)


def config_of(name: str, data: Path, *overrides: str) -> Config:
    return schema.load(Path(f"configs/{name}.yaml"), [f"data.path={data}", *overrides])


def augment(**changes: object) -> list[str]:
    values = dict(pair.split("=") for pair in OFF.split()) | {key: str(value) for key, value in changes.items()}
    return [f"augment.{key}={value}" for key, value in values.items()]


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide_dataset(tmp_path_factory.mktemp("slides"), cases=4, shape=(90, 100)).parent


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_volume_dataset(tmp_path_factory.mktemp("volumes"), cases=4).parent


EVEN = torch.empty(0)  # equal weights of all pixels


def test_pixels_beyond_the_image_are_ignored(slides: Path) -> None:
    """A patch of 128 x 128 of an image of 90 x 100 has 90 * 100 valid pixels."""
    dataset = Patches(config_of("histology_unet", slides, *augment(mask_borders="true")))
    reference = dataset[0][1]
    assert int((reference != IGNORED).sum()) == 90 * 100
    assert reference.unique().tolist() == [0, 1, IGNORED]
    assert IGNORED not in Patches(config_of("histology_unet", slides, *augment()))[0][1]


def test_pixels_that_a_translation_moves_in_are_ignored(slides: Path) -> None:
    overrides = augment(mask_borders="true", translation_px=8)
    dataset = Patches(config_of("histology_unet", slides, "sampling.patch_size=[32,32]", *overrides))
    references = [dataset[index][1] for index in range(12)]
    assert any((reference == IGNORED).any() for reference in references)
    assert all(32 - 8 <= np.sqrt(float((reference != IGNORED).sum())) <= 32 for reference in references)


@pytest.mark.parametrize(
    ("name", "overrides"), [("histology_unet", ["sampling.patch_size=[32,32]"]), ("mri_sliding_window", ["model.window=19"])]
)
def test_worker_processes_give_the_same_bytes(name: str, overrides: list[str], slides: Path, volumes: Path) -> None:
    strengths = [f"augment.{key}" for key in ("remap=1", "blur_px=1", "bias_field=0.2", "low_resolution=0.5", "ghosting=0.3")]
    config = config_of(name, volumes if "mri" in name else slides, *overrides, *strengths)
    dataset = Patches(config)
    alone, shared = ([*DataLoader(dataset, batch_size=4, sampler=range(12), num_workers=workers)] for workers in (0, 2))
    for one, other in zip(alone, shared, strict=True):
        assert [part.numpy().tobytes() for part in one] == [part.numpy().tobytes() for part in other]


def test_patches_of_a_volume_share_its_curve_until_the_pass_ends(volumes: Path) -> None:
    """An intensity of a case is mapped to the same value throughout a pass, and to another one in the next."""
    config = config_of("mri_unet", volumes, "sampling.patch_size=[16,16,16]", *augment(remap=1, remap_background=0))
    plain = Patches(config_of("mri_unet", volumes, "sampling.patch_size=[16,16,16]", *augment(probability=0)))
    dataset = Patches(config)
    a_pass = 4 * len(dataset.cases)
    curves: dict[tuple[int, int], dict[float, float]] = {}
    for index in range(3 * a_pass):
        case = dataset.draws.draw_location(index).case
        before, after = plain[index][0].ravel().tolist(), dataset[index][0].ravel().tolist()
        curve = curves.setdefault((case, index // a_pass), {})
        assert all(curve.setdefault(old, new) == pytest.approx(new, abs=1e-4) for old, new in zip(before, after, strict=True))
    ranges = {key: max(curve, key=lambda old: curve[old]) for key, curve in curves.items()}
    assert len(set(ranges.values())) > 2


def test_styles_come_from_the_folder(slides: Path, tmp_path: Path) -> None:
    for number in range(2):
        Image.fromarray(np.full((40, 50, 3), 60 + 90 * number, np.uint8)).save(tmp_path / f"{number}.png")
    config = config_of("histology_unet", slides, "augment.restyle=1", f"augment.style_bank={tmp_path}")
    bank = read_styles(config)
    assert bank is not None
    pixels = 128 * 128
    np.testing.assert_allclose([style[0, 0, 0] / pixels for style in bank.styles], [60 / 255, 150 / 255], rtol=1e-4)
    restyled = Patches(config_of("histology_unet", slides, *augment(restyle=1, style_bank=tmp_path)))[0][0]
    assert np.isfinite(restyled.numpy()).all()
    assert read_styles(config_of("histology_unet", slides)) is None


def test_a_folder_without_styles(slides: Path, tmp_path: Path) -> None:
    config = config_of("histology_unet", slides, "augment.restyle=0.5", f"augment.style_bank={tmp_path / 'none'}")
    with pytest.raises(
        DataError, match=r"augment\.style_bank has no images; set it to a folder with unlabelled images"
    ) as caught:
        read_styles(config)
    assert caught.value.code == "no_styles"


def test_a_style_that_does_not_fit(slides: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(tmp_path / "grey.png")
    config = config_of("histology_unet", slides, "augment.restyle=0.5", f"augment.style_bank={tmp_path}")
    with pytest.raises(DataError, match=r"case grey\.png: image has 1 channels, the model takes 3"):
        read_styles(config)


def test_masked_reference_reaches_the_loss(slides: Path) -> None:
    """Logits at ignored pixels do not change the loss; others do."""
    from training.objective.losses import make_loss

    config = config_of("histology_unet", slides, *augment(mask_borders="true"))
    reference = Patches(config)[0][1][None]
    loss = make_loss(config)
    logits = torch.randn(1, 2, 128, 128, generator=torch.Generator().manual_seed(0))
    elsewhere = torch.where((reference == IGNORED)[:, None], 100 * torch.ones_like(logits), logits)
    assert loss([elsewhere], reference, EVEN).item() == pytest.approx(loss([logits], reference, EVEN).item())
    assert loss([logits + 1 - 2 * (logits > 0)], reference, EVEN).item() != pytest.approx(
        loss([logits], reference, EVEN).item()
    )
