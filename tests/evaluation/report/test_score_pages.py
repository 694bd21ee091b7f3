"""Pages of scores and comparisons: sound HTML, numbers of the tables, hostile names, and the files beside the page."""

import base64
import csv
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from score_samples import as_masks, compare_tables, make_table

from evaluation.comparison.result import CasePicture, Comparison, PictureTile
from evaluation.comparison.verdict import Verdict
from evaluation.figures.score_grid import ScoreGrid
from evaluation.metrics.registry import METRICS
from evaluation.number_text import difference, difference_interval, interval, letter, measure, p_value
from evaluation.rendering import to_png
from evaluation.report.comparison_files import comparison_to_json, pairs_to_csv, write_comparison
from evaluation.report.comparison_page import render_comparison
from evaluation.report.evaluation_page import render_evaluation, write_evaluation
from evaluation.scoring.evaluate import Evaluation
from evaluation.scoring.table import Score, ScoreTable

HOSTILE = "<script>alert(1)</script></style>\"'\t\n\N{RIGHT-TO-LEFT OVERRIDE}<img src=x onerror=alert(1)>" + "x" * 300
LOADING = {"link", "iframe", "object", "embed", "form", "base", "audio", "video", "image", "use", "foreignobject"}


class Page(HTMLParser):
    """Tags, texts and rows of a page; closing tags must be in order."""

    VOID = ("meta", "img", "br", "source")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.script = ""
        self.rows: list[list[str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.script += data
            return
        self.texts.append(data.strip())
        if "pre" not in self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def rows_of(self, name: str) -> list[list[str]]:
        """Return the other cells of the rows whose first cell has this text."""
        rows = [[" ".join(cell.split()) for cell in row] for row in self.rows]
        return [row[1:] for row in rows if row and row[0] == name]


def check_sound(html: str) -> Page:
    page = Page(html)
    assert page.open == []
    assert not LOADING & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert all((attributes.get(name) or "data:").startswith("data:") for name in ("src", "srcset", "xlink:href"))
        assert (attributes.get("href") or "#").startswith("#"), tag
    assert re.search(r"https?://|url\(|@import|javascript:|\bNone\b|\bnan\b", re.sub(r"base64,[^\"]*", "", html)) is None
    policies = [attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes]
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    assert policies == [
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    ]
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    links = [attributes["href"] for _, attributes in page.tags if "href" in attributes]
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in links if link} <= set(ids)
    return page


def with_pictures(comparison: Comparison, text: str = "a text") -> Comparison:
    png = to_png(np.zeros((2, 2, 3), np.uint8))
    pictures = [CasePicture(comparison.cases[0].name, text, text, (PictureTile(text, text, png),))]
    return replace(comparison, pictures=tuple(pictures))


def test_the_numbers_of_a_table_stand_on_its_page() -> None:
    table = make_table(12)
    page = check_sound(render_evaluation(Evaluation(table, ("A note on the masks.",)), "data", files=["scores.csv"]))
    for metric in METRICS.values():
        unit, title = table.unit_of(metric.name), metric.title
        name = f"{title} (\N{MICRO SIGN}m)" if unit == "um" else f"{title} ({unit})" if unit else title
        by_metric, *by_class = page.rows_of(name)
        values = [value for value in table.case_values(metric.name).values() if not isnan(value)]
        assert by_metric[0] == measure(table.mean(metric.name), unit)
        assert by_metric[1] == interval(ScoreGrid((table,)).mean_interval(metric.name, 0), unit)
        assert by_metric[3:7] == [
            measure(min(values), unit),
            measure(max(values), unit),
            str(len(values)),
            str(12 - len(values)),
        ]
        for row, class_name in zip(by_class, [name for name in table.classes_of(metric.name) if name], strict=True):
            assert row[:2] == [class_name, measure(table.mean(metric.name, class_name), unit)]
        assert metric.convention in " ".join(page.texts)
    (row,) = page.rows_of("case 0003")
    assert row == [measure(table.case_values(metric)["case 0003"], table.unit_of(metric)) for metric in table.metrics[:12]]
    assert {"A note on the masks.", "scores.csv"} <= set(page.texts)


def test_cases_hold_all_of_their_scores_and_remarks() -> None:
    table = make_table(4)
    details = re.findall(r"<pre>(.*?)</pre>", render_evaluation(Evaluation(table, ()), "data"), re.DOTALL)
    assert len(details) == 4
    lines = [line.split("\t") for line in details[3].splitlines()]
    scores = [score for score in table.scores if score.case == "case 0003"]
    assert lines[0] == ["Metric", "Class", "Value", "Remarks"]
    assert [line[2] for line in lines[1:]] == [measure(score.value, score.unit) for score in scores]
    assert [line[3:] for line in lines[1:]] == [["one sided"] if score.remark else [] for score in scores]


def test_the_summary_follows_from_the_numbers() -> None:
    scores = [
        *(Score(f"case{case}", f"patient{case // 2}", "dice", "nucleus", value) for case, value in enumerate([0.5, 0.7, 0.9])),
        *(Score(f"case{case}", f"patient{case // 2}", "dice", "stroma", nan) for case in range(3)),
    ]
    page = check_sound(render_evaluation(Evaluation(ScoreTable("masks", tuple(scores)), ()), "data"))
    assert "The mean Dice is 0.750 over 2 groups with 3 cases." in page.texts  # each group counts once
    assert "The cases lie between 0.500 (case0) and 0.900 (case2)." in page.texts
    assert "With 2 groups the interval is no evidence for other groups." in page.texts


def test_a_page_begins_with_its_headline() -> None:
    evaluation = Evaluation(make_table(12, classes=["one"]), ())
    assert any(
        text.startswith("The mean PQ is 0.") for text in check_sound(render_evaluation(evaluation, "data", headline="pq")).texts
    )
    missing = check_sound(render_evaluation(evaluation, "data", headline="not in the table"))
    assert any(text.startswith("The mean Dice is 0.") for text in missing.texts)


@pytest.mark.parametrize("values", [[], [nan], [nan, nan], [0.5], [0.5] * 4, [0.1, nan, 0.3]])
def test_a_page_of_any_scores(values: list[float]) -> None:
    scores = tuple(Score(f"case{case}", None, "dice", "nucleus", value) for case, value in enumerate(values))
    check_sound(render_evaluation(Evaluation(ScoreTable("masks", scores), ()), "data"))


def test_the_numbers_of_a_comparison_stand_on_its_page() -> None:
    tables = [make_table(12, f"method {number}", seed=number) for number in range(3)]
    comparison = with_pictures(compare_tables(tables))
    page = check_sound(render_comparison(comparison))
    assert {"The sentence.", "A remark.", "A note.", comparison.family} <= set(page.texts)
    for pair in comparison.pairs:
        metric, unit, paired = METRICS[pair.metric], tables[0].unit_of(pair.metric), pair.difference
        name = f"{metric.title} (\N{MICRO SIGN}m)" if unit == "um" else f"{metric.title} ({unit})" if unit else metric.title
        label = f"{letter(pair.second)}method {pair.second} minus {letter(pair.first)}method {pair.first}"
        (row,) = (row[1:] for row in page.rows_of(name) if row[0] == label)
        assert row[:2] == [difference(paired.mean, unit), difference_interval(paired.interval, unit)]
        assert row[2:4] == [p_value(paired.p_value), p_value(pair.corrected_p)]
        assert row[-3:] == [str(paired.wins), str(paired.ties), str(paired.losses)]
    (dice, *_) = page.rows_of("Dice")
    for number, table in enumerate(tables):
        assert dice[number].startswith(measure(table.mean("dice")))
    assert page.rows_of("Parameters") == [["31,030,658", "3,103,065", "1,633,192"]]
    assert page.rows_of("case 0000")[0][:4] == ["show", *(measure(table.case_values("dice")["case 0000"]) for table in tables)]


def test_the_best_mean_is_bold_in_the_direction_of_the_metric() -> None:
    def table(method: str, dice: float, distance: float) -> ScoreTable:
        return ScoreTable(method, (Score("case", None, "dice", "a", dice), Score("case", None, "hd95", "a", distance, "px")))

    html = render_comparison(compare_tables([table("one", 0.5, 3.0), table("other", 0.6, 4.0)]))
    assert re.search(r'<td>0.500<.*?<td class="better">0.600<', html, re.DOTALL)
    assert re.search(r'<td class="better">3.00<.*?<td>4.00<', html, re.DOTALL)


def test_folders_of_masks_have_no_cost() -> None:
    comparison = compare_tables([make_table(4, "one"), make_table(4, "other", seed=1)])
    mixed = replace(comparison, methods=(comparison.methods[0], as_masks(comparison.methods[1])))
    assert check_sound(render_comparison(mixed)).rows_of("Parameters") == [["31,030,658", "\N{EN DASH}"]]
    masks_only = check_sound(render_comparison(replace(comparison, methods=tuple(map(as_masks, comparison.methods)))))
    assert not {"Cost", "Machine", "Runs"} & set(masks_only.texts)


def test_hostile_names_are_only_text() -> None:
    tables = [
        ScoreTable(
            f"{HOSTILE}{number}",
            tuple(
                replace(score, case=HOSTILE + score.case, group=HOSTILE, class_name=HOSTILE)
                for score in make_table(4, classes=["a"]).scores
            ),
        )
        for number in range(3)
    ]
    comparison = replace(
        with_pictures(compare_tables(tables), HOSTILE), data=HOSTILE, split=HOSTILE, family=HOSTILE, notes=(HOSTILE,),
        verdict=Verdict(HOSTILE, (HOSTILE,)), baseline=None, baseline_omitted=HOSTILE,
    )  # fmt: skip
    for html in (
        render_comparison(comparison, files=[HOSTILE]),
        render_evaluation(Evaluation(tables[0], (HOSTILE,)), HOSTILE, files=[HOSTILE]),
    ):
        page = check_sound(html)
        assert html.count("</style>") == html.count("<script") == 1
        assert sum("<script>alert(1)" in text for text in page.texts) > 10


def test_files_beside_the_page_hold_every_number(tmp_path: Path) -> None:
    comparison = compare_tables([make_table(5, "one"), make_table(5, "other", seed=1)])
    page, scores, pairs, numbers = write_comparison(comparison, tmp_path / "new" / "report.html")
    assert [path.name for path in (page, scores, pairs, numbers)] == [
        "report.html",
        "report.csv",
        "report_pairs.csv",
        "report.json",
    ]
    assert all(name in page.read_text(encoding="utf-8") for name in ("report.csv", "report_pairs.csv", "report.json"))
    rows = list(csv.DictReader(io.StringIO(scores.read_text(encoding="utf-8"))))
    assert len(rows) == sum(len(method.table.scores) for method in comparison.methods)
    contents: dict[str, Any] = json.loads(numbers.read_text(encoding="utf-8"))
    assert len(contents["scores"]) == len(rows)
    for pair, row, entry in zip(
        comparison.pairs, csv.DictReader(io.StringIO(pairs.read_text())), contents["pairs"], strict=True
    ):
        assert float(row["difference"]) == pair.difference.mean == entry["difference"]
        assert (row["metric"], row["first"], row["second"], row["unit"]) == (pair.metric, "one", "other", "case")
    assert contents["methods"][1]["seconds"] == list(comparison.methods[1].cost.measurement.seconds)  # type: ignore[union-attr]


def test_what_is_not_defined_is_empty_or_null() -> None:
    table = ScoreTable("one", (Score("case", None, "dice", "a", nan),))
    comparison = compare_tables([table, replace(table, method="other")])
    assert pairs_to_csv(comparison).splitlines()[1].startswith("dice,one,other,,,,,,case,0,,")
    entry = json.loads(comparison_to_json(comparison))["pairs"][0]
    assert entry["difference"] is None
    assert entry["interval_low"] is None


def test_labels_of_whole_images_have_a_table_and_their_convention() -> None:
    table = replace(make_table(3), pooled=(Score("", None, "label_accuracy", "", 0.625),))
    html = render_evaluation(Evaluation(table, ()), "data")
    check_sound(html)
    assert "<h2>Labels of whole images</h2>" in html
    assert "<td>0.625</td>" in html
    assert METRICS["label_accuracy"].convention in html
    assert "Labels of whole images" not in render_evaluation(Evaluation(make_table(3), ()), "data")


def test_an_evaluation_writes_its_files(tmp_path: Path) -> None:
    table = make_table(3)
    paths = write_evaluation(Evaluation(table, ("A note.",)), "data", tmp_path / "scores.html")
    assert [path.name for path in paths] == ["scores.html", "scores.csv", "scores.json"]
    assert len(paths[1].read_text().splitlines()) == 1 + len(table.scores)
    assert len(json.loads(paths[2].read_text())["scores"]) == len(table.scores)
