"""Page of two masks without a reference: its numbers, and that hostile names are only text."""

import numpy as np
import pytest

from evaluation.rendering import to_png
from evaluation.report.mask_comparison_page import ClassRow, MaskComparisonResult, Picture, render_mask_comparison

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def page_of(*, objects: tuple[int, int] | None, name: str = "nucleus", shape: tuple[int, ...] = (40, 50)) -> str:
    picture = Picture("image", "the image", to_png(np.zeros((4, 4, 3), np.uint8)))
    rows = (
        ClassRow(name="background", colour="#000000", shares=(0.75, 0.5), dice=None, objects=None),
        ClassRow(name=name, colour="#d6249f", shares=(0.25, 0.5), dice=0.625, objects=objects),
    )
    return render_mask_comparison(
        MaskComparisonResult(
            models=("unet", "window"), shape=shape, spacing_um=None, agreement=0.9375, classes=rows, where="here",
            pictures=(picture,),
        )
    )  # fmt: skip


def test_the_numbers_stand_on_the_page() -> None:
    page = page_of(objects=(1234, 7))
    for text in ("the same class in 93.8% of the pixels", "<td>25.0%</td><td>50.0%</td><td>0.625</td><td>1,234</td><td>7</td>"):
        assert text in page
    assert "does not say which model is better" in page


def test_objects_have_columns_only_where_they_were_looked_for() -> None:
    assert "Objects" not in page_of(objects=None)
    assert "Objects" in page_of(objects=(0, 0))


def test_volumes_have_voxels() -> None:
    assert "of the voxels" in page_of(objects=None, shape=(4, 5, 6))


@pytest.mark.parametrize("name", [HOSTILE])
def test_hostile_names_are_only_text(name: str) -> None:
    page = page_of(objects=None, name=name)
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)" in page
