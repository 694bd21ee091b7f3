"""Declaration of a data set: what its own files say about classes, ignored pixels and channels."""

from dataclasses import dataclass

from datasets.declared.class_values import ClassValues, is_gapless

BACKGROUND = "background"


@dataclass(frozen=True)
class DeclaredClass:
    """Class that a data set declares.

    Args:
        name: its name.
        values: values of its pixels; empty where references name their classes themselves, as outlines do.
        colour: "#rrggbb" in which it is shown; empty where none is given.
    """

    name: str
    values: tuple[int, ...] = ()
    colour: str = ""


@dataclass(frozen=True)
class Declaration:
    """Declaration of a data set about its classes, values and channels.

    Args:
        origin: where it says so, for messages.
        classes: classes in the order of their indices, the background first; empty where none are declared.
        ignored: value of the pixels that nobody labelled; with classes by name, the label that they get.
        by_colour: values are colours, 0xRRGGBB.
        channels: names of the channels; empty where none are declared.
        overlap: classes overlap, and a reference has a channel for each but the background.
        is_lookup: the classes are a table of all that may occur, of which references may have few.
        training_cases: number of cases with a reference; None where it is not declared.
    """

    origin: str
    classes: tuple[DeclaredClass, ...] = ()
    ignored: int | None = None
    by_colour: bool = False
    channels: tuple[str, ...] = ()
    overlap: bool = False
    is_lookup: bool = False
    training_cases: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(declared.name for declared in self.classes)

    @property
    def is_named(self) -> bool:
        """Return whether references name their classes themselves."""
        return bool(self.classes) and not any(declared.values for declared in self.classes)

    @property
    def is_plain(self) -> bool:
        """Return whether labels are the indices of the classes, and the ignored label is above them."""
        plain = all(declared.values == (index,) for index, declared in enumerate(self.classes))
        return self.is_named or (plain and (self.ignored is None or self.ignored >= len(self.classes)))

    @property
    def class_values(self) -> ClassValues | None:
        """Values of the classes; None where labels are their indices, or references name their classes."""
        if self.is_plain:
            return None
        return ClassValues(self.names, tuple(declared.values for declared in self.classes), self.ignored, self.by_colour)

    @property
    def ignore_index(self) -> int | None:
        """Label of the ignored pixels among the indices of the classes."""
        values = self.class_values
        return values.ignore_index if values else self.ignored

    @property
    def labels_with_gap(self) -> tuple[str, ...]:
        """Labels with the names of their classes, where labels are not 0, 1, 2 ..; otherwise empty."""
        single = all(len(declared.values) == 1 for declared in self.classes)
        values = [value for declared in self.classes for value in declared.values]
        if self.by_colour or not single or is_gapless(values):
            return ()
        return tuple(f"{value} ({declared.name})" for declared in self.classes for value in declared.values)
