"""What came of a recipe's checks -> one HTML file, in the look of the other pages."""

from collections.abc import Sequence
from pathlib import Path

from configs.schema import Config
from evaluation.report.html_page import render_page, write_page
from training.sanity_checks.suite import Outcome

TEMPLATE = "checks.html.j2"


def write_checks(config: Config, outcomes: Sequence[Outcome], path: Path) -> None:
    """Writes the page; folders that are missing are made.

    Raises:
        OSError: the file can't be written.
    """
    write_page(render(config, outcomes), path)


def render(config: Config, outcomes: Sequence[Outcome]) -> str:
    """The page as HTML; every name out of the data is escaped, and the page forbids scripts and loads."""
    return render_page(
        TEMPLATE,
        config=config,
        outcomes=outcomes,
        stops=[outcome for outcome in outcomes if outcome.stops],
        counts={state: sum(outcome.state == state for outcome in outcomes) for state in ("pass", "fail", "not run")},
        seconds=sum(outcome.seconds for outcome in outcomes),
    )
