"""Publishing: the best network of a run becomes its bundle."""

from datetime import UTC, datetime
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file

from configs.schema import Config
from inference.compatibility import at_trained_spacing
from inference.predictors.loading import sample_of
from inference.predictors.methods import make_predictor
from inference.predictors.predictor import Predictor
from models import bundle
from models.architectures import build
from models.manifest import Manifest
from training.calibration import calibrate
from training.clock import Clock
from training.data.open_cases import open_labelled_image
from training.data.splitting import Splits
from training.image_label_training import train_image_labels
from training.resuming.lineage import checkout_commit, package_versions
from training.validation_scores import score_validation, scoring_limit_s

BEST_WEIGHTS = "best.safetensors"  # in the run's checkpoints
INTENDED_USE = "Research only. Not a medical device; not for diagnosis or treatment."


def publish_best(
    folder: Path,
    config: Config,
    predictor: Predictor,
    *,
    class_prior: tuple[float, ...],
    splits: Splits,
    images: tuple[str, ...],
    clock: Clock,
    **facts: object,
) -> Manifest:
    """Write the best network as `folder/bundle`, with its calibration and its validation scores, and return the manifest.

    The first score in `validation` is that by which validation ranked the networks; scores of image labels follow.

    Args:
        folder: the run's.
        config: the run's.
        predictor: gives the margin and the device.
        class_prior: each class's fraction of the training pixels.
        splits: the cases.
        images: SHA-256 of the training and validation images.
        clock: the run's, which limits the time for scoring.
        facts: further fields of the manifest: `training_steps` and `training_seconds`.
    """
    best = folder / "checkpoints" / BEST_WEIGHTS
    with safe_open(best, "pt") as file:
        metadata = file.metadata()
    network = build(config)
    network.load_state_dict(load_file(best))
    best_predictor = make_predictor(config, network.eval(), class_prior, predictor.device)
    labels = train_image_labels(config, best_predictor, splits)
    averaging = make_predictor(config, network, class_prior, predictor.device, average=True)
    labelled = open_labelled_image(splits.val[0], config)
    with labelled.image as image, labelled.reference:
        sample = sample_of(at_trained_spacing(image, config.data), best_predictor.members)
    calibration = calibrate(config, averaging, splits.val)
    calibrated = make_predictor(config, network, class_prior, predictor.device, average=True, calibration=calibration)
    validation = {metadata["name"]: float(metadata["score"]), **labels.validation}
    return bundle.write(
        folder / "bundle",
        network,
        config,
        classifier=labels.classifier,
        sample=sample,
        metrics=score_validation(config, calibrated, splits.val, scoring_limit_s(clock)),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        margin_px=predictor.margin,
        class_prior=class_prior,
        validation=validation,
        calibration=calibration,
        training_images=images,
        versions=package_versions(),
        commit=checkout_commit(),
        intended_use=INTENDED_USE,
        **facts,
    )
