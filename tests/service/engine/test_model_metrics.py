"""Metrics of validation cases in GET /v1/models."""

from pathlib import Path

import torch
from sampled import FACTS, UNET, config_of

from models import bundle
from models.architectures import build
from service.engine.loaded_models import LoadedModels
from service.schemas import ModelAnswer
from tests.bundle_scores import bundle_metrics


def test_a_loaded_model_shows_means_and_conventions_but_no_case(tmp_path: Path) -> None:
    config = config_of("nuclei", UNET)
    bundle.write(tmp_path / "scored", build(config), config, metrics=bundle_metrics(), class_prior=(0.5, 0.5), **FACTS)
    models = LoadedModels(torch.device("cpu"), runtime="torch")
    models.load(tmp_path / "scored", "nuclei:1")
    (answer,) = models.answers
    assert answer.metrics == list(bundle_metrics().metrics)
    text = answer.model_dump_json()
    assert "patient" not in text
    assert ModelAnswer.model_validate_json(text) == answer


def test_answers_of_servers_without_metrics_are_read() -> None:
    answer = {
        "name": "old",
        "method": "unet",
        "dimensions": 2,
        "channels": ["grey"],
        "classes": [],
        "spacing_um": None,
        "validation": {"dice": 0.5},
        "intended_use": "tests",
    }
    assert ModelAnswer.model_validate(answer).metrics == []
