"""Choice of odd properties for a generated file, and the comparison of its pixels with a reference reader's."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]
DIFFERENT = "different"  # among the refusals: the file is read, but not as the reference reads it
_ODD_SHARE = 0.22  # of the files, for each property


@dataclass(frozen=True)
class Variant:
    """Value of one property of a generated file.

    Args:
        name: description for the report.
        value: argument of the generator.
        refusals: codes with which docs/accepted.md lets Overtile refuse the file, or `DIFFERENT`.
    """

    name: str
    value: Any
    refusals: tuple[str, ...] = ()


Properties = dict[str, tuple[Variant, ...]]  # the first variant of each is the ordinary one


@dataclass
class OddFile:
    """Generated file, and the names of its odd properties with the codes with which they may be refused."""

    path: Path
    oddities: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """Generator of a format's odd files, and its reference reader.

    Args:
        write: writes a file of a seed into a folder.
        read: returns the pixels as the reference reads them, in Overtile's order of axes; raises any error.
        reference: name of the reference reader.
    """

    write: Callable[[Path, int], OddFile]
    read: Callable[[Path], Pixels]
    reference: str


def choose(properties: Properties, chance: random.Random) -> dict[str, Variant]:
    """Return one variant for each property: the ordinary one for most files."""
    return {
        name: chance.choice(variants[1:]) if variants[1:] and chance.random() < _ODD_SHARE else variants[0]
        for name, variants in properties.items()
    }


def oddities(chosen: dict[str, Variant], properties: Properties) -> dict[str, tuple[str, ...]]:
    """Return the names of the variants that are not the ordinary ones, with their refusals."""
    return {
        f"{name}: {variant.name}": variant.refusals for name, variant in chosen.items() if variant is not properties[name][0]
    }


def are_equal(pixels: Pixels, reference: Pixels) -> bool:
    """Return True if the pixels are equal, real numbers within the rounding of float32."""
    if pixels.shape != reference.shape:
        return False
    if pixels.dtype.kind in "iu" and reference.dtype.kind in "iub":
        return bool(np.array_equal(pixels, reference))
    return bool(np.allclose(pixels.astype(np.float64), reference.astype(np.float64), rtol=1e-6, atol=1e-30))


def variants(plain: Any, odd: Iterable[tuple[str, Any] | tuple[str, Any, str]]) -> tuple[Variant, ...]:
    """Return the ordinary variant with that value, and the odd ones: name, value and codes of refusals, separated by spaces."""
    return (
        Variant("ordinary", plain),
        *(Variant(name, value, tuple(codes[0].split()) if codes else ()) for name, value, *codes in odd),
    )
