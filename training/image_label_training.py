"""Labels of whole images: their loss during training, and the classifier of maps that is trained with the final network."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from configs.schema import Config
from configs.sections import AugmentSection
from datasets.cases import Case, open_case_image, prefix_errors
from datasets.image_labels import NO_LABEL, label_number
from evaluation.metrics.classification import LabelledImages, accuracy, weighted_f1
from inference.image_label import LabelReader, MapReader
from inference.plan import plan_image
from inference.predictors.predictor import Predictor
from inference.segment import Observers, bands
from models.architectures import build_classifier
from models.image_label_heads import MapClassifier
from training.data.splitting import Splits

BATCH_SIZE = {2: 16, 3: 4}  # maps, by dimensions
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-2
VALIDATIONS = 20  # of a classifier during its training
MAP_DTYPE = torch.float16  # in memory; precise enough for probabilities
ACCURACY, F1 = "label_accuracy", "label_f1"  # their names in the bundle


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits (B, L) over the patches (B,) whose image has a label; 0 if none has.

    A patch has its image's label even if the part of the image that decides it lies elsewhere. Most patches contribute
    little, which is why this loss weighs less than that of the mask.
    """
    total = functional.cross_entropy(logits.float(), labels, ignore_index=NO_LABEL, reduction="sum")
    return total / (labels != NO_LABEL).sum().clamp_min(1)


@dataclass(frozen=True)
class LabelledMaps:
    """Training data of a classifier: maps (N, K, *map) of probabilities, and their images' labels (N,)."""

    maps: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageLabelResult:
    """The classifier of maps, None unless `image_label.by` is `map`, and validation scores, empty without labels."""

    classifier: MapClassifier | None
    validation: dict[str, float]


def train_image_labels(config: Config, predictor: Predictor, splits: Splits) -> ImageLabelResult:
    """Train the classifier of maps if `image_label.by` asks for one, and validate the labels of whole images.

    It runs on the CPU, and a resumed run repeats it with the same result. The maps of training cases are better than those of
    unseen images, so the classifier learns from optimistic maps; the validation scores show what that costs.

    Args:
        config: the run's.
        predictor: of the final network.
        splits: training and validation cases; only those with a label are used.
    """
    section = config.image_label
    if not section.classes:
        return ImageLabelResult(None, {})
    if section.by == "joint":
        labelled = list(_labelled_cases(splits.val, section.classes))
        predictions = []
        for case, _ in labelled:
            with prefix_errors(case), open_case_image(case) as image:
                plan, reader = plan_image(image, predictor), LabelReader(predictor, image.shape)
                for _ in bands(plan, Observers(plan, label=reader)):  # the reader sees each
                    pass
            predictions.append(reader.label.number if reader.label else NO_LABEL)
        labels = [number for _, number in labelled]
        return ImageLabelResult(None, label_scores(predictions, labels, len(section.classes)))
    train, val = (compute_maps(cases, config, predictor) for cases in (splits.train, splits.val))
    classifier = fit_classifier(train, val, config)
    predictions = classify_maps(classifier, val).argmax(dim=1).tolist()
    return ImageLabelResult(classifier, label_scores(predictions, val.labels.tolist(), len(section.classes)))


def label_scores(predictions: Sequence[int], labels: Sequence[int], classes: int) -> dict[str, float]:
    """Return accuracy and weighted F1; an empty dictionary if there are no labels."""
    if not labels:
        return {}
    images = LabelledImages(np.array(labels), np.array(predictions), classes)
    return {ACCURACY: accuracy(images), F1: weighted_f1(images)}


def mean_label_scores(validations: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean label scores of several runs, such as folds, over those that have label scores."""
    with_labels = [validation for validation in validations if ACCURACY in validation]
    return {name: fmean(validation[name] for validation in with_labels) for name in (ACCURACY, F1) if with_labels}


def compute_maps(cases: Sequence[Case], config: Config, predictor: Predictor) -> LabelledMaps:
    """Segment the cases that have a label, and return their maps with the labels."""
    size, dimensions = config.image_label.map_size, config.data.dimensions
    maps, labels = [torch.empty(0, len(config.data.classes), *[size] * dimensions, dtype=MAP_DTYPE)], []
    for case, number in _labelled_cases(cases, config.image_label.classes):
        with prefix_errors(case), open_case_image(case) as image:
            reader = MapReader(predictor.head, image.shape, size)
            for band in bands(plan_image(image, predictor)):
                reader.add(band)
        maps.append(torch.from_numpy(reader.map)[None].to(MAP_DTYPE))  # (1, K, *map)
        labels.append(number)
    return LabelledMaps(torch.cat(maps), torch.tensor(labels, dtype=torch.int64))


def fit_classifier(train: LabelledMaps, val: LabelledMaps, config: Config) -> MapClassifier:
    """Train a classifier of maps for `map_steps` batches in which all labels are equally likely; it is deterministic.

    Returned are the weights with the lowest cross-entropy over the validation maps, or the last ones if there are none.

    Args:
        train: maps of the training cases, with at least two labels.
        val: maps of the validation cases.
        config: gives the classifier's size, the steps, the seed, and whether maps may be flipped and turned.
    """
    random = torch.Generator().manual_seed(config.run.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.run.seed)
        classifier = build_classifier(config)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps, best, least = config.image_label.map_steps, classifier.state_dict(), float("inf")
    weights = 1 / torch.bincount(train.labels)[train.labels]
    for step in range(steps):
        numbers = torch.multinomial(weights, BATCH_SIZE[config.data.dimensions], replacement=True, generator=random)
        maps = torch.stack([flip_and_turn(train.maps[number], config.augment, random) for number in numbers.tolist()]).float()
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / steps)
        loss = functional.cross_entropy(classifier.train()(maps), train.labels[numbers])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step + 1 == steps or (step + 1) % max(1, steps // VALIDATIONS) == 0:
            value = float(functional.cross_entropy(classify_maps(classifier, val), val.labels)) if len(val) else -step
            if value < least:
                best, least = deepcopy(classifier.state_dict()), value
    classifier.load_state_dict(best)
    return classifier.eval()


def classify_maps(classifier: MapClassifier, maps: LabelledMaps) -> Tensor:
    """Return the classifier's logits (N, L), computed map by map."""
    with torch.no_grad():
        logits = [classifier.eval()(each[None].float()) for each in maps.maps]
    return torch.cat(logits) if logits else torch.empty(0, 1)


def flip_and_turn(map_: Tensor, section: AugmentSection, random: torch.Generator) -> Tensor:
    """Flip and turn a map (K, *S) at random, as far as the augmentation of patches does."""
    coins = torch.rand(map_.ndim, generator=random) < 0.5
    if section.probability > 0 and section.flips:
        map_ = map_.flip([axis for axis in range(1, map_.ndim) if coins[axis]])
    if section.probability > 0 and section.quarter_turns and coins[0]:
        map_ = map_.rot90(1, (-2, -1))
    return map_


def _labelled_cases(cases: Sequence[Case], classes: Sequence[str]) -> Iterator[tuple[Case, int]]:
    """Yield each case that has a label, with the label's number."""
    numbered = ((case, label_number(case, classes)) for case in cases)
    return ((case, number) for case, number in numbered if number != NO_LABEL)
