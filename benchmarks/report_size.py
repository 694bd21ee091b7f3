"""Size of reports, and how long Chromium takes to open them: an evaluation and a comparison of 8 and of 1,000 cases.

    python -m benchmarks.report_size [--methods 2] [--cases 8 1000]

The scores are random, in every metric, for three classes. The time is from the request to the second frame that is drawn, in a
browser that runs already, as the median of five loads, and includes the script. Sorting is the time of a click on a title.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from evaluation.report.comparison_page import render_comparison
from evaluation.report.evaluation_page import render_evaluation
from evaluation.scoring.evaluate import Evaluation
from tests.chromium import Browser, chromium
from tests.evaluation.score_samples import compare_tables, make_table

LOADS = 5
SORT = """(() => { const start = performance.now(); document.querySelector("table.cases thead th:nth-child(3) button").click();
document.body.offsetHeight; return performance.now() - start; })()"""


def main() -> None:
    """Print a row for each kind of page and number of cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", type=int, default=2, help="methods of the comparison")
    parser.add_argument("--cases", type=int, nargs="+", default=[8, 1000], help="numbers of cases")
    options = parser.parse_args()
    program = shutil.which("chromium")
    if program is None:
        parser.error("no chromium on the path; apt-get install chromium")
    with chromium(program) as browser, tempfile.TemporaryDirectory() as folder:
        print("| page | cases | written in s | MB | opened in s | sorted in ms |\n| --- | --- | --- | --- | --- | --- |")
        for cases in options.cases:
            tables = [make_table(cases, f"method {number}", seed=number, groups=True) for number in range(options.methods)]
            start = time.perf_counter()
            html = render_evaluation(Evaluation(tables[0], ()), "data")
            print(_row(browser, Path(folder, "page.html"), html, f"evaluation | {cases} | {time.perf_counter() - start:.1f}"))
            comparison = compare_tables(tables)
            start = time.perf_counter()
            html = render_comparison(comparison)
            print(_row(browser, Path(folder, "page.html"), html, f"comparison | {cases} | {time.perf_counter() - start:.1f}"))


def _row(browser: Browser, path: Path, html: str, beginning: str) -> str:
    path.write_text(html, encoding="utf-8")
    browser.show()
    seconds = statistics.median(browser.open(path) for _ in range(LOADS))
    return f"| {beginning} | {path.stat().st_size / 1e6:.2f} | {seconds:.2f} | {browser.evaluate(SORT):.0f} |"


if __name__ == "__main__":
    main()
