"""The report: its numbers, that names are escaped and nothing is loaded, and that it renders for any numbers."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from math import nan
from pathlib import Path

import numpy as np
import pytest
from evaluation_samples import make_comparison

from configs.sections import ClassSection
from evaluation import number_text
from evaluation.comparison.pair_result import CasePicture, Comparison, PictureTile
from evaluation.comparison.verdict import Verdict
from evaluation.metrics.overlap import Overlaps
from evaluation.rendering import to_png
from evaluation.report.html_page import render_report, write_report

HOSTILE = "<script>alert(1)</script></style>\"'><img src=x onerror=alert(1)>"
LOADING = {"script", "link", "iframe", "object", "embed", "form", "base", "a", "audio", "video", "svg"}


class Page(HTMLParser):
    """Tags and texts of a page; closing tags must be in order."""

    VOID = ("meta", "img", "br", "source")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def check_sound(html: str) -> Page:
    page = Page(html)
    assert page.open == []
    assert not LOADING & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        sources = [attributes.get(name) or "data:" for name in ("src", "srcset", "href")]
        assert all(source.startswith("data:") for source in sources)
    assert re.search(r"https?://|url\(|@import|javascript:", html) is None
    policies = [attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert html.count("<table>") == html.count("<caption>")
    return page


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([], []),
        ([0.5], [0.6]),
        ([nan, nan], [nan, nan]),
        ([nan, 0.5, 0.6], [0.0, 0.5, 0.6]),
        ([0.5] * 4, [0.5] * 4),
        ([0.1, 0.2, 0.4, 0.3], [0.4, 0.3, 0.3, 0.7]),
    ],
)
@pytest.mark.parametrize("has_baseline", [True, False])
def test_it_renders_with_any_numbers(first: list[float], second: list[float], *, has_baseline: bool) -> None:
    comparison = make_comparison(first, second)
    if not has_baseline:
        comparison = replace(comparison, baseline=None, baseline_omitted="no threshold")
    html = render_report(comparison)
    check_sound(html)
    assert not re.search(r"\bnan\b|>None<", re.sub(r"base64,[^\"]*", "", html))


def test_ten_thousand_cases() -> None:
    values = np.random.default_rng(0).uniform(size=(2, 10_000))
    page = check_sound(render_report(make_comparison(list(values[0]), list(values[1]))))
    assert "case9999" in page.texts


def rows_of(html: str) -> dict[str, list[str]]:
    """Return the cells of each table row by its first cell."""
    rows = re.findall(r"<tr><th scope=\"row\"><bdi>(.*?)</bdi></th>(.*?)</tr>", html, re.DOTALL)
    return {name: re.findall(r"<td[^>]*>(.*?)</td>", cells) for name, cells in rows}


def test_the_numbers_stand_in_the_table() -> None:
    rows = rows_of(render_report(make_comparison([0.6, 0.7, 0.8, nan], [0.5, 0.6, 0.9, 0.0])))
    assert rows["Dice, mean over cases"] == ["0.700", "0.500", "0.400"]
    assert rows["Dice, all pixels pooled"] == ["0.800", "0.800", "0.400"]
    assert rows["Cases without foreground where the mask has some"][:2] == ["0 of 1", "1 of 1"]
    assert rows["Time for all cases"][:2] == ["1.00 s", "1.00 s"]
    assert rows["Megapixels per second"][:2] == ["0.0800", "0.0800"]
    assert rows["Peak memory beyond the loaded network"][:2] == ["200 MiB", "200 MiB"]
    assert rows["Multiply-adds per pixel, margins included"][:2] == ["219 thousand", "219 thousand"]
    assert rows["The same, if run patch by patch"][:2] == ["\N{EN DASH}", "121 million"]
    assert rows["Parameters"][:2] == ["31,030,658", "31,030,658"]
    assert rows["case0"][:4] == ["0.600", "0.500", "\N{MINUS SIGN}0.100", "0.400"]
    assert rows["case3"][:3] == ["\N{EN DASH}", "0.000", "\N{EN DASH}"]


def test_the_better_score_is_bold() -> None:
    html = render_report(make_comparison([0.6, 0.7], [0.5, 0.6]))
    assert '<td class="better">0.650</td><td>0.550</td>' in html


def test_the_gpu_has_a_row_where_there_is_one() -> None:
    comparison = make_comparison([0.5], [0.5])
    assert "on the GPU" not in render_report(comparison)
    methods = tuple(
        replace(method, measurement=replace(method.measurement, device_bytes=2**30)) for method in comparison.methods
    )
    assert rows_of(render_report(replace(comparison, methods=methods)))["Peak memory on the GPU"][:2] == [
        "1.00 GiB",
        "1.00 GiB",
    ]


def three_classes(comparison: Comparison) -> Comparison:
    classes = (*comparison.classes, ClassSection(name="stroma", colour="#0a9e73"))
    both = (Overlaps((0.5, 0.7), (0.4, 0.6)), Overlaps((0.25, nan), (0.2, nan)))
    cases = tuple(replace(case, overlaps=both) for case in comparison.cases)
    return replace(comparison, classes=classes, cases=cases, baseline=None, baseline_omitted="one threshold makes two classes")


def test_each_class_has_its_own_row() -> None:
    html = render_report(three_classes(make_comparison([0.5], [0.5])))
    check_sound(html)
    assert rows_of(html)["Dice of stroma"] == ["0.700", "\N{EN DASH}"]
    assert rows_of(html)["case0"][:3] == ["0.600", "0.250", "\N{MINUS SIGN}0.350"]
    assert html.count('<tr class="class">') == 2


def hostile(comparison: Comparison) -> Comparison:
    png = to_png(np.zeros((2, 2, 3), np.uint8))
    return replace(
        comparison,
        data=HOSTILE,
        split=HOSTILE,
        classes=tuple(ClassSection(name=HOSTILE, colour="#123456") for _ in range(3)),
        cases=tuple(
            replace(case, name=HOSTILE, group=HOSTILE, overlaps=(Overlaps((0.5, 0.5), (0.5, 0.5)),) * 2)
            for case in comparison.cases
        ),
        notes=(HOSTILE,),
        verdict=Verdict(HOSTILE, (HOSTILE,)),
        baseline=None,
        baseline_omitted=HOSTILE,
        methods=tuple(replace(method, name=HOSTILE, label=HOSTILE, commit=HOSTILE) for method in comparison.methods),
        pictures=(CasePicture(HOSTILE, HOSTILE, HOSTILE, (PictureTile(HOSTILE, HOSTILE, png),)),),
    )


def test_hostile_names_are_only_text() -> None:
    html = render_report(hostile(make_comparison([0.5, 0.6], [0.6, 0.5])))
    page = check_sound(html)
    assert "<script" not in html
    assert html.count("</style>") == 1
    assert page.texts.count(HOSTILE) > 20


def test_pictures_are_in_the_file() -> None:
    png = to_png(np.zeros((2, 2, 3), np.uint8))
    picture = CasePicture("case0", "the reason", "the whole image", (PictureTile("image", "what it shows", png),))
    page = check_sound(render_report(make_comparison([0.5], [0.6], pictures=(picture,))))
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert {"src", "alt"} <= set(images[-1])
    assert images[-1]["alt"] == "what it shows"
    assert "only" in " ".join(page.texts)


def test_missing_folders_are_created(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(make_comparison([0.5], [0.6]), path)
    html = path.read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert "The sentence." in html


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number_text.score(0.81249), "0.812"),
        (number_text.score(nan), "\N{EN DASH}"),
        (number_text.signed(-0.0671), "\N{MINUS SIGN}0.067"),
        (number_text.signed(0.0671), "+0.067"),
        (number_text.percent(0.98765), "98.8%"),
        (number_text.significant(0), "0"),
        (number_text.significant(1234.5), "1,230"),
        (number_text.significant(45.67), "45.7"),
        (number_text.significant(0.012345), "0.0123"),
        (number_text.significant(nan), "\N{EN DASH}"),
        (number_text.seconds(0.25), "0.250 s"),
        (number_text.seconds(754), "12.6 min"),
        (number_text.seconds(9000), "2.5 h"),
        (number_text.spread([0.5, 0.25, 1.0]), "0.500 s (0.250 to 1.00)"),
        (number_text.spread([]), "\N{EN DASH}"),
        (number_text.memory(None), "\N{EN DASH}"),
        (number_text.memory(3 * 2**29), "1.50 GiB"),
        (number_text.operations(121_464_592), "121 million"),
        (number_text.operations(2.5e9), "2.50 billion"),
        (number_text.operations(12), "12.0"),
        (number_text.operations(None), "\N{EN DASH}"),
        (number_text.size((3, 4)), "3 \N{MULTIPLICATION SIGN} 4"),
        (number_text.spacing((0.5, 0.25)), "0.5 \N{MULTIPLICATION SIGN} 0.25 µm"),
        (
            number_text.spacing((3000, 937.5, 937.5)),
            "3 \N{MULTIPLICATION SIGN} 0.9375 \N{MULTIPLICATION SIGN} 0.9375 mm",
        ),
        (number_text.spacing(None), "not given"),
    ],
)
def test_numbers_in_words(text: str, expected: str) -> None:
    assert text == expected
