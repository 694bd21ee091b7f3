"""Choose the classes of a plan: those that the data set declares, or else those that its labels show."""

import math
from collections.abc import Sequence
from typing import Any

from configs.schema import ConfigError
from configs.sections import MAX_CLASSES
from datasets.declared.class_values import is_gapless, value_text
from datasets.declared.declaration import BACKGROUND, Declaration, DeclaredClass
from datasets.fingerprint import CaseFacts
from datasets.labels.counts import join_first
from datasets.labels.kinds import label_kind
from imaging.errors import DataError
from training.planning.data_choices import Choice, Choices

COLOURS = ("#ffffff", "#7b2cbf", "#2a9d8f", "#e76f51", "#e9c46a", "#264653", "#d62828", "#4895ef", "#80b918", "#ff70a6")


def choose_classes(
    facts: Sequence[CaseFacts], names: Sequence[str], declaration: Declaration | None = None, ignore_label: int | None = None
) -> Choices:
    """Choose `data.classes`, `data.instances`, `data.ignore_label` and, for classes that overlap, `head.kind`.

    Args:
        facts: facts of the cases; their labels are indices of declared classes, or else as stored.
        names: the user's names, the background first; empty where none are given.
        declaration: what the data set declares.
        ignore_label: label of pixels that nobody labelled, where the user gives it.

    Raises:
        ConfigError: names that don't fit the classes.
        DataError: `ignore_label_unclear`, `labels_unknown`: labels whose meaning has to be asked for.
    """
    if declaration and declaration.classes:
        return _declared_classes(facts, names, declaration)
    kind = label_kind([case.label_counts for case in facts if case.label_counts])
    foreground = [label for label in kind.labels if label > 0]
    has_gap = not is_gapless((0, *foreground))
    labels_are_objects = kind.number_objects
    if names and not (has_gap and len(names) == len(foreground) + 1):
        labels_are_objects = len(names) == 2 and foreground[-1] > 1
    if labels_are_objects:
        return {
            "data.classes": Choice(_entries([DeclaredClass(name) for name in names or (BACKGROUND, "object")])),
            "data.instances": Choice(
                True, f"labels up to {foreground[-1]} number objects, so any value above 0 is the second class"
            ),
            "data.ignore_label": Choice(ignore_label),
        }
    if not names:
        _check_clear(kind.labels, kind.odd, kind.unclear)
    if names and len(names) != len(foreground) + 1 and len(names) <= foreground[-1]:
        raise ConfigError(
            f"--classes: {len(names)} names, but the references have labels up to {foreground[-1]}; give "
            f"{foreground[-1] + 1} names, background first"
        )
    labels: Sequence[int] = range(len(names)) if names and len(names) > len(foreground) + 1 else (0, *foreground)
    if len(labels) > MAX_CLASSES:
        raise ConfigError(f"the references have {len(labels)} labels, at most {MAX_CLASSES} classes are trained; merge some")
    placeholders = (BACKGROUND, *(f"class_{label}" for label in labels[1:]))
    classes = [DeclaredClass(name, (label,)) for name, label in zip(names or placeholders, labels, strict=True)]
    reason = f"labels in the references: {join_first(list(map(str, foreground)))}"
    if names and is_gapless(labels):
        reason = ""
    elif not names:
        reason += "; name them with --classes"
    return {
        "data.classes": Choice(
            _entries(classes, with_values=not Declaration("", tuple(classes), ignore_label).is_plain), reason
        ),
        "data.instances": Choice(False),
        "data.ignore_label": Choice(ignore_label),
    }


def _check_clear(labels: Sequence[int], odd: Sequence[int], unclear: int | None) -> None:
    """Refuse labels that nearly no case has, and one that may be that of ignored pixels."""
    if odd:
        raise DataError(
            "labels_unknown",
            f"almost no case has the labels {join_first(list(map(str, odd)))}, and others have "
            f"{join_first([str(label) for label in labels if label not in odd])}; correct them (overtile inspect names the "
            "cases), or name all classes with --classes",
        )
    if unclear is not None:
        raise DataError(
            "ignore_label_unclear",
            f"references hold {join_first(list(map(str, labels)))}, and {unclear} often is the label of unlabelled pixels: "
            f"if it is, plan with --ignore {unclear}; if it is a class, name all {len({0, *labels})} with --classes",
        )


def _declared_classes(facts: Sequence[CaseFacts], names: Sequence[str], declaration: Declaration) -> Choices:
    classes = list(declaration.classes)
    reason = f"declared by {declaration.origin}"
    if declaration.is_named and names:
        missing = [name for name in declaration.names[1:] if name not in names]
        if missing:
            raise ConfigError(
                f"--classes: {join_first(missing)} missing; {declaration.origin} name {', '.join(declaration.names)}"
            )
        classes, reason = [DeclaredClass(name) for name in names], ""
    if declaration.is_lookup and not names:
        present = {label for case in facts for label in case.label_counts} | {0}
        classes = [declared for index, declared in enumerate(classes) if index in present]
        reason += "; those that no reference has are left out" if len(classes) < len(declaration.classes) else ""
    elif names and not declaration.is_named:
        if len(names) != len(classes):
            raise ConfigError(
                f"--classes: {len(names)} names, but {declaration.origin} declares {len(classes)} classes: "
                f"{', '.join(declaration.names)}; give as many names, in this order"
            )
        classes = [DeclaredClass(name, each.values, each.colour) for name, each in zip(names, classes, strict=True)]
    if len(classes) > MAX_CLASSES:
        raise ConfigError(
            f"{declaration.origin} declares {len(classes)} classes, at most {MAX_CLASSES} are trained; merge some"
        )
    with_values = not Declaration("", tuple(classes), declaration.ignored).is_plain
    ignored: Any = declaration.ignored
    if ignored is not None and declaration.by_colour:
        ignored = value_text(ignored, True)
    choices = {
        "data.classes": Choice(_entries(classes, with_values=with_values, by_colour=declaration.by_colour), reason),
        "data.instances": Choice(False),
        "data.ignore_label": Choice(ignored, f"declared by {declaration.origin}" if ignored is not None else ""),
    }
    if declaration.overlap:
        regions = ", ".join(declared.name for declared in classes[1:])
        choices["head.kind"] = Choice("multi_label", f"{regions} overlap")
    return choices


def _entries(classes: Sequence[DeclaredClass], *, with_values: bool = False, by_colour: bool = False) -> list[dict[str, Any]]:
    """Return entries of `data.classes`, with colours of a palette where classes have none of their own."""
    palette = [COLOURS[0], *(COLOURS[1:] * math.ceil(len(classes) / len(COLOURS[1:])))]
    entries = []
    for declared, colour in zip(classes, palette, strict=False):
        entry: dict[str, Any] = {"name": declared.name, "colour": declared.colour or colour}
        if with_values:
            values: list[Any] = [value_text(value, True) if by_colour else value for value in declared.values]
            entry["value"] = values if len(values) > 1 else values[0]
        entries.append(entry)
    return entries
