"""Pages on a phone, 390 px wide: the page itself never scrolls sideways, wide tables and plots scroll inside their box."""

import re
from pathlib import Path

import pytest

TEMPLATES = Path(__file__).parents[3] / "evaluation/report"
PAGES = sorted(TEMPLATES.glob("*.html.j2"))
STYLES = (TEMPLATES / "page.css.j2").read_text(encoding="utf-8")


def test_the_pages() -> None:
    assert {page.name for page in PAGES} >= {"checks.html.j2", "inspection.html.j2", "comparison.html.j2", "run_page.html.j2"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_as_wide_as_the_screen(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert '{% include "page.css.j2" %}' in html
    tables = len(re.findall(r"<table\b", html))
    assert tables == len(re.findall(r'<div class="scroll(?: tall)?" tabindex="0">\s*<table\b', html))
    plots = len(re.findall(r'<img class="plot"', html))
    assert plots == len(re.findall(r'<picture>\s*<source [^>]*>\s*<img class="plot"', html))


def test_boxes_scroll_and_long_names_break() -> None:
    assert ".scroll { overflow: auto; max-width: 100%; }" in STYLES
    assert "picture { display: block; overflow-x: auto; }" in STYLES
    assert "h1, h2, h3 { overflow-wrap: anywhere; }" in STYLES
    assert re.search(r"\.facts {[^}]*overflow-wrap: anywhere", STYLES)
    narrow = STYLES.split("@media (max-width: 50rem) {")[1].split("@media print")[0]
    assert ".problems thead { display: none; }" in narrow  # problems are lines below each other
    assert re.search(r"\.problems, [^{]*{ display: block;", narrow)


def test_no_fixed_width_exceeds_a_phone_outside_a_box() -> None:
    """A phone has 24.4 rem; wider minimum widths stand inside `.scroll` or `picture` only."""
    for page in (*PAGES, TEMPLATES / "page.css.j2"):
        rules = re.findall(r"([^{}]*){[^{}]*min-width: ([\d.]+)rem", page.read_text(encoding="utf-8"))
        wide = {selector.strip() for selector, width in rules if float(width) > 20}
        assert wide <= {".strip", ".plot", ".pictures .plot"}, page.name
