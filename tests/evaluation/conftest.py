"""Small bundles with random weights for the tests of evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_samples import UNET, WINDOW, MakeBundle, make_config

from inference.predictors.methods import make_predictor
from models import bundle
from models.architectures import build


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory: pytest.TempPathFactory) -> MakeBundle:
    """Return a function that writes a bundle with random weights and returns its folder."""

    def make(name: str, model: dict[str, Any], *, images: Sequence[str] = (), seed: int = 0, **options: Any) -> Path:
        config = make_config(name, model, **options)
        torch.manual_seed(seed)
        network = build(config)
        classes = len(config.data.classes)
        prior = (1 / classes,) * classes
        folder = tmp_path_factory.mktemp("bundles") / name
        bundle.write(
            folder,
            network,
            config,
            created="2026-01-01T00:00:00Z",
            margin_px=make_predictor(config, network, prior, torch.device("cpu")).margin,
            class_prior=prior,
            validation={"dice": 0.5},
            training_steps=1234,
            training_seconds=56.7,
            training_images=tuple(images),
            versions={"torch": torch.__version__},
            commit=None,
            intended_use="research",
        )
        return folder

    return make


@pytest.fixture(scope="session")
def unet(make_bundle: MakeBundle) -> Path:
    return make_bundle("phantom_unet", UNET)


@pytest.fixture(scope="session")
def window(make_bundle: MakeBundle) -> Path:
    return make_bundle("phantom_window", WINDOW)
