"""What suits a head: how many classes, which losses and weights, which method; `check_agreement` asks all of it."""

from typing import TYPE_CHECKING

from configs.network_sections import SlidingWindowSection

if TYPE_CHECKING:
    from configs.schema import Config

_OF_CLASSES = ("dice_cross_entropy", "cross_entropy", "dice", "focal", "tversky", "boundary")
_OF_GRADES = ("cross_entropy", "dice_cross_entropy", "dice", "focal", "tversky", "boundary")
_LOSSES: dict[str, tuple[str, ...]] = {  # by head; the first is the default
    "softmax": _OF_CLASSES,
    "sigmoid": _OF_CLASSES,
    "multi_label": _OF_CLASSES,
    "one_hot": _OF_GRADES,
    "cumulative": _OF_GRADES,
    "soft_label": ("cross_entropy",),
    "regression": ("squared_error",),
    "unit_regression": ("cross_entropy",),
}
_OF_PIXELS = ("cross_entropy", "focal", "squared_error")  # a window has one
_WEIGHED = ("cross_entropy", "dice_cross_entropy", "focal")  # losses that pixels have a weight in
_VALUES = ("regression", "unit_regression")
_CORRECTED = ("softmax", "sigmoid", "one_hot", *_VALUES)  # what equal draws of the classes do to outputs can be undone


def losses_of(config: "Config") -> tuple[str, ...]:
    """The losses that suit method and head; the first is taken where `loss.name` is None."""
    losses = _LOSSES[config.head.name]
    if isinstance(config.model, SlidingWindowSection):
        return tuple(name for name in losses if name in _OF_PIXELS)
    return losses


def loss_of(config: "Config") -> str:
    """The loss that is minimised."""
    return config.loss.name or losses_of(config)[0]


def check_head(config: "Config") -> None:
    """Nothing, when data, method and loss suit the head.

    Raises:
        ValueError: with the key, what it says and what it may say.
    """
    _check_classes(config)
    _check_method(config)
    _check_ignore_label(config)
    _check_loss(config)
    _check_class_weights(config)
    _check_border_weight(config)


def _check_classes(config: "Config") -> None:
    kind, count = config.head.kind, len(config.data.classes)
    if kind in _VALUES and count != 1:
        raise ValueError(f"data.classes: {count} entries, head.kind {kind} takes 1, the name of what is measured")
    if kind == "sigmoid" and count != 2:
        raise ValueError(
            f"data.classes: {count} entries, head.kind sigmoid takes 2; set head.kind to softmax for other numbers"
        )
    if kind not in _VALUES and count < 2:
        raise ValueError(f"data.classes: 1 entry, head.kind {kind} takes 2 or more, the background or the lowest grade first")
    if config.data.instances and (count != 2 or kind == "ordinal"):
        raise ValueError(
            f"data.instances: numbered objects are one class beside the background, and there are {count} of head.kind {kind}; "
            "give a background and one class without an order, or set data.instances to false"
        )


def _check_method(config: "Config") -> None:
    if isinstance(config.model, SlidingWindowSection) and config.head.name not in _CORRECTED:
        raise ValueError(
            f"head: {config.head.name} doesn't suit the sliding window, which draws the classes equally often: their true "
            f"shares can't be put back into its outputs; choose {', '.join(_CORRECTED)}, or train a U-Net"
        )


def _check_ignore_label(config: "Config") -> None:
    label, classes = config.data.ignore_label, config.data.classes
    if label is not None and label < len(classes) and config.head.kind not in _VALUES:
        raise ValueError(
            f"data.ignore_label: {label} is the label of {classes[label].name}; choose one that no class has, such as 255"
        )


def _check_loss(config: "Config") -> None:
    if config.loss.name is not None and config.loss.name not in losses_of(config):
        allowed = [name for name in losses_of(config) if name != "squared_error"]
        suits = f"choose {', '.join(allowed)}, or leave it out" if allowed else "leave it out: the squared error is taken"
        raise ValueError(
            f"loss.name: {config.loss.name} doesn't suit head {config.head.name} of model {config.model.name}; {suits}"
        )


def _check_class_weights(config: "Config") -> None:
    weights, classes = config.loss.class_weights, len(config.data.classes)
    if weights is None:
        return
    if config.head.kind in _VALUES:
        raise ValueError(f"loss.class_weights: head.kind {config.head.kind} has no classes; leave it out")
    if loss_of(config) not in _WEIGHED:
        raise ValueError(
            f"loss.class_weights: {loss_of(config)} doesn't weigh pixels; leave it out, or choose {', '.join(_WEIGHED)}"
        )
    if weights == "balanced" and isinstance(config.model, SlidingWindowSection):
        raise ValueError("loss.class_weights: the sliding window draws the classes equally often already; leave balanced out")
    if weights != "balanced" and len(weights) != classes:
        raise ValueError(f"loss.class_weights: {len(weights)} values for {classes} classes; give one a class, or balanced")


def _check_border_weight(config: "Config") -> None:
    if config.loss.border_weight == 0:
        return
    if config.head.kind in (*_VALUES, "multi_label"):
        raise ValueError(
            f"loss.border_weight: lies between objects on a background, and head.kind {config.head.kind} has none of its own; "
            "set it to 0"
        )
    if loss_of(config) not in _WEIGHED:
        raise ValueError(
            f"loss.border_weight: {loss_of(config)} doesn't weigh pixels; set it to 0, or choose {', '.join(_WEIGHED)}"
        )
