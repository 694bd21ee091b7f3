"""Labels of whole images: the loss that trains them with the mask, and what is done for them once the network is finished."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from configs.schema import Config
from configs.sections import AugmentSection
from datasets.cases import Case, open_case_image, prefix_errors
from datasets.image_labels import NO_LABEL, label_number
from evaluation.metrics.classification import accuracy, weighted_f1
from evaluation.metrics.overlap import confusion
from imaging.source import ImageSource
from inference.image_label import LabelReader, MapReader
from inference.plan import plan_image
from inference.predictors.predictor import Predictor
from inference.segment import Observers, bands
from models.architectures import build_classifier
from models.image_label_heads import MapClassifier
from training.data.splitting import Splits

BATCH_SIZE = {2: 16, 3: 4}  # maps, by dimensions
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-2
VALIDATIONS = 20  # of a classifier while it is trained
STORED = torch.float16  # maps in waiting; probabilities need no more
ACCURACY, F1 = "label_accuracy", "label_f1"  # as the bundle names them


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy of logits (B, L) over the patches (B,) whose image has a label; 0 where none has.

    A patch has its image's label whether what makes the difference is on it or not: most patches say little, which is why this
    loss weighs less than the mask's.
    """
    total = functional.cross_entropy(logits.float(), labels, ignore_index=NO_LABEL, reduction="sum")
    return total / (labels != NO_LABEL).sum().clamp_min(1)


@dataclass(frozen=True)
class Maps:
    """What a classifier trains on: maps (N, K, *map) of probabilities, and their images' labels (N,)."""

    maps: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Finished:
    """What reads labels off maps, where that is how they are read; and how good labels are, nothing where nobody knows."""

    classifier: MapClassifier | None
    validation: dict[str, float]


def finish_labels(config: Config, predictor: Predictor, splits: Splits) -> Finished:
    """Trains the classifier of maps, where `image_label.by` asks for one, and validates the labels of whole images.

    Redone from the finished network it comes to the same, so that nothing of it is kept between sittings. It runs on the CPU.
    The training cases' maps are better than those of images that the network has not seen: what the classifier learns from
    them is optimistic, and the validation cases say how far that carries.

    Args:
        config: the run's.
        predictor: of the finished network.
        splits: which cases train and which validate; only those with a label count.
    """
    section = config.image_label
    if not section.classes:
        return Finished(None, {})
    if section.by == "joint":
        labelled = list(_labelled(splits.val, section.classes))
        said = [_joint_label(case, predictor) for case, _ in labelled]
        return Finished(None, scores(said, [number for _, number in labelled], len(section.classes)))
    train, val = (read_maps(cases, config, predictor) for cases in (splits.train, splits.val))
    classifier = fit_classifier(train, val, config)
    found = predict_maps(classifier, val).argmax(dim=1)
    return Finished(classifier, scores(found.tolist(), val.labels.tolist(), len(section.classes)))


def scores(said: Sequence[int], labels: Sequence[int], classes: int) -> dict[str, float]:
    """Accuracy and weighted F1; nothing where there is no label."""
    if not labels:
        return {}
    counts = confusion(np.array(said), np.array(labels), classes)
    return {ACCURACY: accuracy(counts), F1: weighted_f1(counts)}


def mean_scores(validations: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of several runs, such as folds, each with its own cases: the mean over those that know."""
    known = [validation for validation in validations if ACCURACY in validation]
    return {name: fmean(validation[name] for validation in known) for name in (ACCURACY, F1) if known}


def read_maps(cases: Sequence[Case], config: Config, predictor: Predictor) -> Maps:
    """The maps of all cases that have a label."""
    size, dimensions = config.image_label.map_size, config.data.dimensions
    maps, labels = [torch.empty(0, len(config.data.classes), *[size] * dimensions, dtype=STORED)], []
    for case, number in _labelled(cases, config.image_label.classes):
        with prefix_errors(case), open_case_image(case) as image:
            maps.append(torch.from_numpy(_map(image, predictor, size))[None].to(STORED))
        labels.append(number)
    return Maps(torch.cat(maps), torch.tensor(labels, dtype=torch.int64))


def fit_classifier(train: Maps, val: Maps, config: Config) -> MapClassifier:
    """A classifier of maps after `map_steps` batches that hold every label equally often; equal inputs give equal weights.

    The weights are those of the lowest cross-entropy over the validation maps, the last ones where there are none.

    Args:
        train: of the training cases, with at least two labels.
        val: of the validation cases.
        config: says the classifier's size, the steps, the seed, and whether maps may be mirrored and turned.
    """
    random = torch.Generator().manual_seed(config.run.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.run.seed)
        classifier = build_classifier(config)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps, best, least = config.image_label.map_steps, classifier.state_dict(), float("inf")
    rarity = 1 / torch.bincount(train.labels)[train.labels]
    for step in range(steps):
        drawn = torch.multinomial(rarity, BATCH_SIZE[config.data.dimensions], replacement=True, generator=random)
        maps = torch.stack([moved(train.maps[number], config.augment, random) for number in drawn.tolist()]).float()
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / steps)
        loss = functional.cross_entropy(classifier.train()(maps), train.labels[drawn])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step + 1 == steps or (step + 1) % max(1, steps // VALIDATIONS) == 0:
            value = float(functional.cross_entropy(predict_maps(classifier, val), val.labels)) if len(val) else -step
            if value < least:
                best, least = deepcopy(classifier.state_dict()), value
    classifier.load_state_dict(best)
    return classifier.eval()


def predict_maps(classifier: MapClassifier, maps: Maps) -> Tensor:
    """Logits (N, L), map by map."""
    with torch.no_grad():
        said = [classifier.eval()(each[None].float()) for each in maps.maps]
    return torch.cat(said) if said else torch.empty(0, 1)


def moved(map_: Tensor, section: AugmentSection, random: torch.Generator) -> Tensor:
    """A map (K, *S) mirrored and turned at random, as far as patches of the images may be."""
    drawn = torch.rand(map_.ndim, generator=random) < 0.5
    if section.probability > 0 and section.flips:
        map_ = map_.flip([axis for axis in range(1, map_.ndim) if drawn[axis]])
    if section.probability > 0 and section.quarter_turns and drawn[0]:
        map_ = map_.rot90(1, (-2, -1))
    return map_


def _labelled(cases: Sequence[Case], classes: Sequence[str]) -> Iterator[tuple[Case, int]]:
    """Cases with a label, and its number."""
    numbered = ((case, label_number(case, classes)) for case in cases)
    return ((case, number) for case, number in numbered if number != NO_LABEL)


def _map(image: ImageSource, predictor: Predictor, size: int) -> NDArray[np.float32]:
    """(K, *map)."""
    reader = MapReader(predictor.head, image.shape, size)
    for band in bands(plan_image(image, predictor)):
        reader.add(band)
    return reader.map


def _joint_label(case: Case, predictor: Predictor) -> int:
    with prefix_errors(case), open_case_image(case) as image:
        plan, reader = plan_image(image, predictor), LabelReader(predictor, image.shape)
        for _ in bands(plan, Observers(plan, label=reader)):
            pass
    label = reader.label
    return label.number if label else NO_LABEL
