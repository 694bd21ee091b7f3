"""A whole image's label comes with its mask, in a header that takes any name."""

from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from servers import png

from configs import schema
from models import bundle
from models.architectures import build, build_classifier
from service.engine.direct_calls import SmallImage, segment_small
from service.engine.loaded_models import LoadedModels
from tests.manifest_facts import FACTS
from tests.phantom import draw_slide

NAMES = ("Nävus, gutartig", "メラノーマ")
SMALL = ("model.features=[4,8]", "sampling.patch_size=[16,16]", "image_label.map_size=8")


def header_of(folder: Path, *overrides: str) -> str | None:
    config = schema.load(Path("configs/histology_unet.yaml"), [*SMALL, *overrides])
    classifier = build_classifier(config) if config.image_label.classes else None
    bundle.write(folder, build(config), config, classifier=classifier, class_prior=(0.7, 0.3), **FACTS)
    image = folder.with_suffix(".png")
    image.write_bytes(png(draw_slide((24, 24), 0)[0].astype(np.uint8)))
    models = LoadedModels(torch.device("cpu"))
    models.load(folder, "labelled")
    model = models.get(models.answers[0].name)
    assert model is not None
    headers: dict[str, str] = segment_small(SmallImage(image, None, None), model, None, lambda done, total: None)["headers"]
    return headers.get("X-Overtile-Label")


def test_the_header_says_the_label(tmp_path: Path) -> None:
    said = header_of(tmp_path / "labelled", f"image_label.classes=['{NAMES[0]}', '{NAMES[1]}']")
    assert said is not None
    assert said.isascii()
    assert unquote(said) in NAMES


@pytest.mark.parametrize("by", ["map", "joint"])
def test_without_labels_there_is_no_header(by: str, tmp_path: Path) -> None:
    assert header_of(tmp_path / "plain", f"image_label.by={by}") is None
