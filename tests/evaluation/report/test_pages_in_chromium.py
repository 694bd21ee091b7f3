"""Pages in a real browser: the script runs under the page's policy, tables sort, cases open, and narrow pages fit."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from score_samples import compare_tables, make_table

from evaluation.inspection.data_summary import InspectionOptions, inspect_dataset
from evaluation.inspection.page import write_inspection
from evaluation.report.comparison_page import render_comparison
from evaluation.report.evaluation_page import render_evaluation
from evaluation.scoring.evaluate import Evaluation
from tests.chromium import Browser, chromium
from tests.phantom import write_slide_dataset

HOSTILE = "<script>alert(1)</script>\"'\N{RIGHT-TO-LEFT OVERRIDE}" + "x" * 200
LONGEST_LOAD_S = 10  # on a machine that does other work; `benchmarks/report_size.py` measures


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium here; .ci/run installs Debian's")
        pytest.skip("no Chromium here; apt-get install chromium")
    with chromium(program) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the pages of an evaluation, of a comparison, and of six methods with hostile names."""
    hostile = [
        replace(make_table(5, f"{HOSTILE}{number}", seed=number), scores=tuple(
            replace(score, case=HOSTILE + score.case, class_name=score.class_name and HOSTILE + score.class_name)
            for score in make_table(5, seed=number).scores
        ))
        for number in range(6)
    ]  # fmt: skip
    texts = {
        "evaluation": render_evaluation(Evaluation(make_table(30, groups=True), ()), "data"),
        "comparison": render_comparison(compare_tables([make_table(30, "one"), make_table(30, "other", seed=1)])),
        "hostile": render_comparison(compare_tables(hostile)),
    }
    folder = tmp_path_factory.mktemp("pages")
    paths = {name: folder / f"{name}.html" for name in texts}
    for name, text in texts.items():
        paths[name].write_text(text, encoding="utf-8")
    return paths


def column(browser: Browser, number: int) -> list[str]:
    """Return the texts of a column of the table of cases."""
    rows = "[...document.querySelectorAll('table.cases > tbody > tr:not(.detail)')]"
    texts: list[str] = browser.evaluate(f"{rows}.map(row => row.cells[{number}].querySelector('bdi, a') ? "
        f"row.cells[{number}].querySelector('bdi, a').textContent : row.cells[{number}].textContent)")  # fmt: skip
    return texts


@pytest.mark.parametrize("name", ["evaluation", "comparison", "hostile"])
@pytest.mark.parametrize(("width", "dark", "media"), [(1280, False, ""), (390, True, ""), (800, False, "print")])
def test_pages_load_nothing_log_nothing_and_fit(
    browser: Browser, pages: dict[str, Path], name: str, *, width: int, dark: bool, media: str
) -> None:
    browser.show(width=width, dark=dark, media=media)
    assert browser.open(pages[name]) < LONGEST_LOAD_S
    assert browser.problems() == []
    assert browser.requests() == [pages[name].as_uri()]
    if media != "print":
        assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_figures_follow_the_colour_scheme(browser: Browser, pages: dict[str, Path]) -> None:
    colours = []
    for dark, media in ((False, ""), (True, ""), (True, "print")):
        browser.show(dark=dark, media=media)
        browser.open(pages["comparison"])
        colours.append(browser.evaluate("getComputedStyle(document.querySelector('.dots.c1')).stroke"))
    assert colours == ["rgb(199, 119, 0)", "rgb(230, 159, 0)", "rgb(199, 119, 0)"]


def test_a_column_sorts_by_a_click_and_by_the_keyboard(browser: Browser, pages: dict[str, Path]) -> None:
    browser.show()
    browser.open(pages["evaluation"])
    values = [float(text) for text in column(browser, 2)]
    title = "table.cases thead th:nth-child(3)"
    browser.click(f"{title} button")
    assert [float(text) for text in column(browser, 2)] == sorted(values)
    assert browser.evaluate(f"document.querySelector('{title}').getAttribute('aria-sort')") == "ascending"
    browser.press("Enter", 13)  # the button has the focus
    assert [float(text) for text in column(browser, 2)] == sorted(values, reverse=True)
    assert browser.evaluate(f"document.querySelector('{title}').getAttribute('aria-sort')") == "descending"
    browser.click("table.cases thead th:nth-child(1) button")
    assert column(browser, 0) == [f"case {number:04d}" for number in range(30)]
    assert browser.evaluate("document.querySelectorAll('.cases [aria-sort]').length") == 1


def test_cases_without_a_value_are_last_in_both_directions(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    table = make_table(6, classes=["one"])
    scores = tuple(replace(score, value=float("nan")) if score.case == "case 0002" else score for score in table.scores)
    path.write_text(render_evaluation(Evaluation(replace(table, scores=scores), ()), "data"), encoding="utf-8")
    browser.open(path)
    for _ in range(2):
        browser.click("table.cases thead th:nth-child(2) button")
        assert column(browser, 0)[-1] == "case 0002"


def test_differences_sort_by_their_sign(browser: Browser, pages: dict[str, Path]) -> None:
    browser.show()
    browser.open(pages["comparison"])
    browser.click("table.cases thead th:nth-child(4) button")
    values = [float(text.replace("\N{MINUS SIGN}", "-")) for text in column(browser, 3)]
    assert values == sorted(values)
    assert values[0] < 0 < values[-1]


def test_a_case_opens_with_all_of_its_scores(browser: Browser, pages: dict[str, Path]) -> None:
    browser.show()
    browser.open(pages["comparison"])
    table = make_table(30, "one")
    browser.click("table.cases tbody tr:nth-child(3) summary")
    rows = browser.evaluate(
        "new Promise(done => setTimeout(() => done([...document.querySelectorAll('tr.detail table tr')]"
        ".map(row => [...row.cells].map(cell => cell.textContent))), 100))"
    )
    assert rows[0] == ["Metric", "Class", "one", "other", "Remarks"]
    assert len(rows) == 1 + len([score for score in table.scores if score.case == "case 0002"])
    assert rows[1][:3] == ["Dice", "nucleus", f"{table.case_values('dice', 'nucleus')['case 0002']:.3f}"]
    browser.click("table.cases tbody tr:nth-child(3) summary")
    assert (
        browser.evaluate("new Promise(done => setTimeout(() => done(document.querySelectorAll('tr.detail').length), 100))") == 0
    )


def test_without_script_cases_open_as_text(browser: Browser, pages: dict[str, Path]) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.show()
        browser.open(pages["evaluation"], has_script=False)
        assert browser.evaluate("document.querySelectorAll('table.cases button').length") == 0
        assert browser.evaluate("getComputedStyle(document.querySelector('table.cases pre')).display") == "block"
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_cases_of_an_inspection_sort_beside_one_that_cannot_be_read(browser: Browser, tmp_path: Path) -> None:
    data = write_slide_dataset(tmp_path / "data", cases=4, shape=(48, 60)).parent
    (data / "images/case002.png").write_bytes(b"broken")
    write_inspection(inspect_dataset(data, InspectionOptions()), tmp_path / "page.html")
    browser.show()
    browser.open(tmp_path / "page.html")
    shares = "[...document.querySelectorAll('table.sortable tbody tr')].map(row => row.cells[7]?.textContent)"
    values = [float(text.rstrip("%")) for text in browser.evaluate(shares) if text]
    browser.click("table.sortable thead th:nth-child(8) button")
    assert [float(text.rstrip("%")) for text in browser.evaluate(shares) if text] == sorted(values)
    assert len(values) == 3
    assert browser.problems() == []


def test_a_page_prints(browser: Browser, pages: dict[str, Path]) -> None:
    browser.show(media="print")
    browser.open(pages["comparison"])
    assert browser.pdf().startswith(b"%PDF")
    assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
