"""Compatibility of a head with the data, the method and the loss. Each check takes the sections that it compares."""

from configs.network_sections import ModelSection, SlidingWindowSection
from configs.sections import DataSection, HeadSection, LossSection, PixelValue

_CLASS_LOSSES = ("dice_cross_entropy", "cross_entropy", "dice", "focal", "tversky", "boundary")
_GRADE_LOSSES = ("cross_entropy", "dice_cross_entropy", "dice", "focal", "tversky", "boundary")
_LOSSES: dict[str, tuple[str, ...]] = {  # by head; the first is the default
    "softmax": _CLASS_LOSSES,
    "sigmoid": _CLASS_LOSSES,
    "multi_label": _CLASS_LOSSES,
    "one_hot": _GRADE_LOSSES,
    "cumulative": _GRADE_LOSSES,
    "soft_label": ("cross_entropy",),
    "regression": ("squared_error",),
    "unit_regression": ("cross_entropy",),
}
_PIXEL_LOSSES = ("cross_entropy", "focal", "squared_error")  # sums over pixels; a sliding window's output is one pixel
_WEIGHTED_LOSSES = ("cross_entropy", "dice_cross_entropy", "focal")  # losses that take a weight per pixel
_VALUE_KINDS = ("regression", "unit_regression")
_PRIOR_HEADS = ("softmax", "sigmoid", "one_hot", *_VALUE_KINDS)  # heads whose outputs can be corrected to the class prior


def allowed_losses(model: ModelSection, head: HeadSection) -> tuple[str, ...]:
    """Return the losses that fit the method and the head. The first is the default."""
    losses = _LOSSES[head.name]
    if isinstance(model, SlidingWindowSection):
        return tuple(name for name in losses if name in _PIXEL_LOSSES)
    return losses


def effective_loss(model: ModelSection, head: HeadSection, loss: LossSection) -> str:
    """Return the name of the loss that is minimised: `loss.name`, or the default of the method and the head."""
    return loss.name or allowed_losses(model, head)[0]


def check_classes(data: DataSection, head: HeadSection) -> None:
    """Refuse a number of classes that the head doesn't have.

    Raises:
        ValueError: with the key, its value and what is allowed; this holds for every check here.
    """
    kind, count = head.kind, len(data.classes)
    if kind in _VALUE_KINDS and count != 1:
        raise ValueError(f"data.classes: {count} entries, head.kind {kind} takes 1, the name of what is measured")
    if kind == "sigmoid" and count != 2:
        raise ValueError(
            f"data.classes: {count} entries, head.kind sigmoid takes 2; set head.kind to softmax for other numbers"
        )
    if kind not in _VALUE_KINDS and count < 2:
        raise ValueError(f"data.classes: 1 entry, head.kind {kind} takes 2 or more, the background or the lowest grade first")
    if data.instances and (count != 2 or kind == "ordinal"):
        raise ValueError(
            f"data.instances: numbered objects need a background and one class, and there are {count} classes of head.kind "
            f"{kind}; give two classes without an order, or set data.instances to false"
        )


def check_method(model: ModelSection, head: HeadSection) -> None:
    """Refuse heads that the sliding window can't train, since it samples all classes equally often."""
    if isinstance(model, SlidingWindowSection) and head.name not in _PRIOR_HEADS:
        raise ValueError(
            f"head: {head.name} doesn't work with the sliding window, which samples all classes equally often: its outputs "
            f"can't be corrected to the classes' true shares; choose {', '.join(_PRIOR_HEADS)}, or train a U-Net"
        )


def check_values(data: DataSection, head: HeadSection) -> None:
    """Refuse values of classes that contradict each other, or that nothing uses."""
    if not data.has_values:
        return
    if data.instances or head.kind in _VALUE_KINDS:
        other = "data.instances is true" if data.instances else f"head.kind is {head.kind}"
        raise ValueError(f"data.classes: value is the label of a class, but {other}; remove value")
    values = [(value, section.name) for index, section in enumerate(data.classes) for value in data.values_of(index)]
    if len({isinstance(value, str) for value, _ in values}) > 1:
        raise ValueError(
            "data.classes: some classes have a colour as value and others a label; give each a colour, the background too"
        )
    names: dict[PixelValue, str] = {}
    for value, name in values:
        key = value.lower() if isinstance(value, str) else value
        if key in names and head.kind != "multi_label":
            raise ValueError(
                f"data.classes: value {value} belongs to {names[key]} and to {name}; give it to one class, or set head.kind to "
                "multi_label for classes that overlap"
            )
        names[key] = name


def check_ignore_label(data: DataSection, head: HeadSection) -> None:
    """Refuse to ignore the label of a class."""
    label = data.ignore_label
    if label is None or head.kind in _VALUE_KINDS:
        return
    if isinstance(label, str) != data.has_colours:
        kinds = ("a colour", "labels") if isinstance(label, str) else ("a label", "colours")
        raise ValueError(
            f"data.ignore_label: {label} is {kinds[0]}, and the classes have {kinds[1]}; give it as they are given"
        )
    for index, section in enumerate(data.classes):
        if str(label).lower() in [str(value).lower() for value in data.values_of(index)]:
            raise ValueError(
                f"data.ignore_label: {label} is the label of {section.name}; choose one that no class has, such as 255"
            )


def check_loss(model: ModelSection, head: HeadSection, loss: LossSection) -> None:
    """Refuse a loss that the head or the method doesn't have."""
    losses = allowed_losses(model, head)
    if loss.name is not None and loss.name not in losses:
        names = [name for name in losses if name != "squared_error"]
        advice = f"choose {', '.join(names)}, or leave it out" if names else "leave it out for the squared error"
        raise ValueError(f"loss.name: {loss.name} doesn't work with head {head.name} of model {model.name}; {advice}")


def check_class_weights(model: ModelSection, data: DataSection, head: HeadSection, loss: LossSection) -> None:
    """Refuse class weights without classes, of a loss without weights, or of another number of classes."""
    weights, classes = loss.class_weights, len(data.classes)
    if weights is None:
        return
    if head.kind in _VALUE_KINDS:
        raise ValueError(f"loss.class_weights: head.kind {head.kind} has no classes; leave it out")
    if (name := effective_loss(model, head, loss)) not in _WEIGHTED_LOSSES:
        raise ValueError(
            f"loss.class_weights: {name} has no pixel weights; leave it out, or choose {', '.join(_WEIGHTED_LOSSES)}"
        )
    if weights == "balanced" and isinstance(model, SlidingWindowSection):
        raise ValueError("loss.class_weights: the sliding window already samples all classes equally often; leave balanced out")
    if weights != "balanced" and len(weights) != classes:
        raise ValueError(f"loss.class_weights: {len(weights)} values for {classes} classes; give one per class, or balanced")


def check_border_weight(model: ModelSection, head: HeadSection, loss: LossSection) -> None:
    """Refuse border weights where there is no background, or of a loss without weights."""
    if loss.border_weight == 0:
        return
    if head.kind in (*_VALUE_KINDS, "multi_label"):
        raise ValueError(
            f"loss.border_weight: weighs the background between objects, and head.kind {head.kind} has no background class; "
            "set it to 0"
        )
    if (name := effective_loss(model, head, loss)) not in _WEIGHTED_LOSSES:
        raise ValueError(
            f"loss.border_weight: {name} has no pixel weights; set it to 0, or choose {', '.join(_WEIGHTED_LOSSES)}"
        )
