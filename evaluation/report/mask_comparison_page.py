"""Page of two models' masks of one image, without a reference: where and how much they agree."""

from dataclasses import dataclass

from evaluation import rendering
from evaluation.report.html_page import render_page


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """Class in both masks; pairs are (first model, second model).

    Args:
        name: name of the class.
        colour: its colour, #rrggbb.
        shares: share of the pixels.
        dice: Dice between both masks; None for the background, and where neither mask has the class.
        objects: number of objects; None where objects were not looked for, and for the background.
    """

    name: str
    colour: str
    shares: tuple[float, float]
    dice: float | None
    objects: tuple[int, int] | None


@dataclass(frozen=True)
class Picture:
    """Picture with its title, alternative text and PNG."""

    title: str
    alt: str
    png: bytes


@dataclass(frozen=True, kw_only=True)
class MaskComparisonResult:
    """Comparison of two models' masks of one image.

    Args:
        models: names of the models.
        shape: shape of the image, in S order.
        spacing_um: distance between pixels, in S order; None where it is unknown.
        agreement: share of the pixels that have the same class in both masks.
        classes: the classes, the background first.
        where: part of the image that the pictures show.
        pictures: pictures of the part where the masks differ most.
    """

    models: tuple[str, str]
    shape: tuple[int, ...]
    spacing_um: tuple[float, ...] | None
    agreement: float
    classes: tuple[ClassRow, ...]
    where: str
    pictures: tuple[Picture, ...]


def render_mask_comparison(result: MaskComparisonResult) -> str:
    """Return the page of a comparison without a reference as HTML."""
    return render_page(
        "mask_comparison.html.j2",
        result=result,
        has_objects=any(row.objects for row in result.classes),
        difference_colour=rendering.NEITHER,
        pixel_word="voxel" if len(result.shape) == 3 else "pixel",
    )
