"""The model card: what the bundle says stands in it, and nothing else."""

import re
from typing import Any

import pytest
from sampled import CLASSES, FACTS, UNET, WINDOW, config_of

from configs.schema import Config
from inference.predictors.runtime_parity import RuntimeParity
from models.bundle_metrics import BundleMetrics
from models.manifest import Manifest
from service.packaging.model_card import METRICS, fingerprint, model_card
from tests.bundle_scores import bundle_metrics
from tests.calibrations import calibration
from training.objective.scoring import SCORES


def manifest_of(config: Config, **facts: Any) -> Manifest:
    described = {
        "format_version": 3,
        "name": config.run.name,
        "method": config.model.name,
        "dimensions": config.data.dimensions,
        "channels": config.data.channels,
        "classes": config.data.classes,
        "spacing_um": config.data.spacing_um,
        "class_prior": (0.75, 0.25)[: len(config.data.classes)],
        "files": {},
    }
    return Manifest.model_validate({**described, **FACTS, **facts})


def card_of(
    model: dict[str, Any] = UNET,
    parity: RuntimeParity | None = None,
    facts: dict[str, Any] | None = None,
    metrics: BundleMetrics | None = None,
    **sections: Any,
) -> str:
    config = config_of("nuclei", model, **sections)
    return model_card(manifest_of(config, **(facts or {})), config, parity=parity, metrics=metrics)


def section(card: str, title: str) -> str:
    return card.split(f"## {title}\n")[1].split("\n## ")[0].strip()


def test_what_the_bundle_knows_is_there() -> None:
    card = card_of(parity=RuntimeParity("openvino", 0.9999, 0.01, 0.002), data={"spacing_um": [0.5, 0.25]})
    assert card.startswith("# nuclei\n")
    assert section(card, "Intended use") == "tests only"
    assert section(card, "Method") == "- U-Net in 2D: features 4, 8; same padding; norm batch"
    assert "| 1 | nucleus | `#ff0000` | 25.00% |" in section(card, "Classes")
    assert "- Channels: red, green, blue" in section(card, "Input")
    assert "- Spacing: 0.5 x 0.25 µm (y, x); others are resampled" in section(card, "Input")
    assert "- Images that training saw, validation included: 2" in section(card, "Training data")
    assert "- Steps: 7, in 9 s" in section(card, "Training data")
    assert section(card, "Validation").startswith("- dice: 0.5 (Dice, 0 to 1: ")
    assert "openvino: 99.9900% of pixels alike, off by 0.01 at most" in section(card, "Runtime")
    assert "Nothing is known about other scanners" in section(card, "Limits")
    assert "- torch 2.13.0" in section(card, "Versions")
    assert "- Commit `0123abcd`" in section(card, "Versions")
    assert "/v1/segment?model=nuclei&format=png" in section(card, "Calling it")


def test_what_the_bundle_doesnt_know_is_left_out() -> None:
    card = card_of(facts={"validation": {}, "training_images": (), "commit": None, "versions": {}})
    assert not re.search("Spacing|Validation\n|Runtime|Fingerprint|Commit|None|Ensemble|Averaged", card)


def test_a_calibration() -> None:
    lines = section(card_of(facts={"calibration": calibration(1.625)}), "Calibration").splitlines()
    assert lines[0].startswith("- Temperature: 1.62. The logits are divided by it before probabilities and uncertainty are")
    assert lines[1].startswith(
        "- Expected calibration error: 0.200 without and 0.100 with it, in and near the foreground of the 3"
    )
    assert lines[2] == "- An image whose foreground has a mean probability below 0.60 gets the remark low\\_confidence."
    assert len(section(card_of(facts={"calibration": calibration(1.625, None)}), "Calibration").splitlines()) == 2


def test_all_metrics_are_a_table_with_their_conventions() -> None:
    validation = section(card_of(metrics=bundle_metrics()), "Validation")
    assert "| Dice | 0.75 | nucleus 0.5, \\[cell\\] 1 | 2 | 2TP / (2TP + FP + FN). |" in validation
    assert "| HD95 | 12.5 µm |  | 1 | In micrometres. |" in validation
    assert "| ECE | not defined |  | 0 | Expected calibration error. |" in validation
    assert validation.endswith("One case was left out.")
    assert "patient" not in validation


def test_a_sliding_window_and_its_ensemble() -> None:
    facts = {"member_priors": ((0.5, 0.5), (0.7, 0.3))}
    card = card_of(WINDOW, facts=facts, inference={"average": "flips"})
    assert section(card, "Method").splitlines() == [
        "- sliding-window pixel classifier in 2D: window 9 px; 1 convolutions; norm none",
        "- Ensemble: 2 networks, whose logits are averaged",
        "- Averaged over: flips",
    ]


@pytest.mark.parametrize(
    ("normalise", "said"),
    [
        ({"method": "zscore"}, "each channel of each image by its own mean and standard deviation"),
        ({"method": "range", "lower": 0, "upper": 255}, "0 .. 255 becomes -1 .. 1"),
        (
            {"method": "ct", "lower": -900, "upper": 900, "mean": 40, "deviation": 100},
            "clipped to -900 .. 900, less 40, divided by 100",
        ),
    ],
)
def test_normalisation(normalise: dict[str, Any], said: str) -> None:
    assert f"- Normalised by: {said}" in card_of(normalise=normalise)


def test_a_volume_is_called_with_a_volume() -> None:
    card = card_of(dimensions=3, data={"spacing_um": [3000, 500, 500]})
    assert "- Spacing: 3 x 0.5 x 0.5 mm (z, y, x)" in card
    assert "--data-binary @image.nii.gz" in section(card, "Calling it")


def test_values_are_had_from_the_command_line() -> None:
    card = card_of(head={"kind": "regression"}, data={"classes": CLASSES[1:]}, facts={"class_prior": (1.0,)})
    assert "Each pixel gets a value, no class." in section(card, "Classes")
    assert "overtile predict IMAGE -b BUNDLE" in section(card, "Calling it")
    assert "/v1/segment" not in card


def test_labels_of_whole_images() -> None:
    card = card_of(image_label={"classes": ["benign", "malignant"]})
    assert "Whole images get a label, too: benign, malignant." in card


def test_names_are_nothing_but_text() -> None:
    hostile = [{"name": "a|b\n## <script>[x](y)", "colour": "#000000"}, CLASSES[1]]
    card = card_of(data={"classes": hostile})
    assert r"| 0 | a\|b \#\# \<script\>\[x\](y) | `#000000` |" in card


def test_the_fingerprint_depends_on_the_files_alone() -> None:
    config = config_of("nuclei", UNET)
    one, other = (manifest_of(config, training_images=files) for files in (("a", "b"), ("b", "a")))
    assert fingerprint(one) == fingerprint(other) != fingerprint(manifest_of(config, training_images=("a",)))


def test_every_score_has_a_meaning() -> None:
    assert {score.name for score in SCORES.values()} | {"label_accuracy", "label_f1"} == set(METRICS)
