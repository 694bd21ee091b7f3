"""The best network of a run -> its bundle."""

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
from models.bundle import Sample
from training.data.open_cases import open_labelled
from training.data.splitting import Splits
from training.image_label_training import finish_labels
from training.resuming.lineage import commit, versions

BEST = "best.safetensors"  # in the run's checkpoints
INTENDED_USE = "Research only. Not a medical device; not for diagnosis or treatment."


def publish_best(
    folder: Path,
    config: Config,
    predictor: Predictor,
    *,
    class_prior: tuple[float, ...],
    splits: Splits,
    images: tuple[str, ...],
    **facts: object,
) -> dict[str, float]:
    """Writes the best network as `folder/bundle`; gives what validation says of it, its score first.

    Args:
        folder: the run's.
        config: the run's.
        predictor: knows the method's margin and the device.
        class_prior: each class's share of the training pixels.
        splits: the cases, for labels of whole images.
        images: SHA-256 of the images that training saw.
        facts: others that the manifest holds: `training_steps` and `training_seconds`.
    """
    best = folder / "checkpoints" / BEST
    with safe_open(best, "pt") as file:
        known = file.metadata()
    network = build(config)
    network.load_state_dict(load_file(best))
    best_predictor = make_predictor(config, network.eval(), class_prior, predictor.device)
    labels = finish_labels(config, best_predictor, splits)
    validation = {known["name"]: float(known["score"]), **labels.validation}
    bundle.write(
        folder / "bundle",
        network,
        config,
        classifier=labels.classifier,
        sample=_sample(splits, best_predictor),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        margin_px=predictor.margin,
        class_prior=class_prior,
        validation=validation,
        training_images=images,
        versions=versions(),
        commit=commit(),
        intended_use=INTENDED_USE,
        **facts,
    )
    return validation


def _sample(splits: Splits, predictor: Predictor) -> Sample:
    """Out of the first validation case."""
    labelled = open_labelled(splits.val[0], predictor.config)
    with labelled.image as image, labelled.reference:
        return sample_of(at_trained_spacing(image, predictor.config.data), predictor.members)
