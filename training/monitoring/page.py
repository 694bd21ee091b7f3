"""The page `report.html` of a run: curves, pictures, layers, data and config in one HTML file, while it trains and after."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from configs import schema
from configs.schema import Config
from datasets.case_checks import Examination
from evaluation import rendering
from evaluation.calibration.diagram import reliability_diagram
from evaluation.comparison.measurement import describe_machine
from evaluation.inspection.data_summary import Inspection, summary_rows
from evaluation.report.html_page import render_page
from models import bundle
from training.monitoring.curves import best_of, curve_plot, score_label
from training.monitoring.history import (
    STEP,
    Entry,
    MonitoringFolder,
    evenly_spaced,
    mask_name,
    mask_steps,
    read_captions,
    replace_file,
)
from training.monitoring.layer_table import NetworkSummary, summarise_network
from training.resuming.lineage import LINEAGE_FILE, checkout_commit, package_versions

TEMPLATE = "run_page.html.j2"
SCHEMES = (rendering.LIGHT, rendering.DARK)
MOST_COLUMNS = 6  # of masks in a row of pictures
MOST_TIME_SHARE = 0.05  # of a run, that goes into writing its page
Rows = tuple[tuple[str, str], ...]
RunState = Literal["training", "stopped", "finished", "time_limit"]
FILTERS = (("before the first step", "filters_start.png"), ("now", "filters.png"))


@dataclass(frozen=True)
class RunFacts:
    """The contents of a run's page that stay the same while it trains.

    Args:
        config: the run's.
        score: the name of the score by which validation ranks networks, the higher the better.
        data: a table of the cases.
        environment: a table of machine, versions and commit.
        summary: the network's layers.
    """

    config: Config
    score: str
    data: Rows
    environment: Rows
    summary: NetworkSummary


@dataclass(frozen=True)
class Setting:
    """A key of the config with its value and its default as text; the default is None where the key is required."""

    key: str
    value: str
    default: str | None

    @property
    def differs(self) -> bool:
        """Return whether the value differs from the default."""
        return self.value != self.default


@dataclass(frozen=True)
class Strip:
    """The pictures of a tracked case as PNG files: its masks, each with its step, are shown over the pale image."""

    name: str
    location: str
    image: bytes
    pale: bytes
    reference: bytes
    masks: tuple[tuple[int, bytes], ...]


def describe_run(config: Config, score: str, examination: Examination, splits: Mapping[str, str]) -> RunFacts:
    """Collect the facts of a run's page.

    Args:
        config: the run's.
        score: the name of the score by which validation ranks networks.
        examination: of the cases that train and validate.
        splits: train or val by case.
    """
    inspection = Inspection(config.data.path, examination, splits, 0, config.run.seed)
    training = [report.facts for report in examination.reports if splits.get(report.case.name) == "train"]
    digests = sorted(digest for facts in training if facts for digest in facts.sha256)
    digest = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    data = (*summary_rows(inspection), ("Training images", f"SHA-256 of their SHA-256, sorted: {digest}"))
    computer = describe_machine()
    hardware = (
        f"{computer.processor}; cores: {computer.cores}, torch threads: {computer.threads}; device: {computer.device}; "
        f"{computer.system}"
    )
    versions = ", ".join(f"{name} {number}" for name, number in package_versions().items())
    environment = (("Machine", hardware), ("Versions", versions), ("Commit", checkout_commit() or "unknown"))
    return RunFacts(config, score, data, environment, summarise_network(config))


class PageWriter:
    """Writes a run's page, and limits the share of the run's time that goes into it.

    Args:
        facts: the contents that stay the same.
        folder: the run's.
        files: the run's history.
    """

    def __init__(self, facts: RunFacts, folder: Path, files: MonitoringFolder) -> None:
        self.facts = facts
        self.folder = folder
        self.files = files
        self._last = time.monotonic()
        self._writing_s = 0.0

    def is_due(self) -> bool:
        """Return whether writing the page now stays within MOST_TIME_SHARE of the time since the last page."""
        return time.monotonic() - self._last >= self._writing_s / MOST_TIME_SHARE

    def write(self, state: RunState, remark: str = "") -> None:
        """Write the page with the history so far.

        Raises:
            OSError: it can't be written; the earlier page stays.
        """
        start = time.monotonic()
        try:
            write_report(self.facts, self.folder, self.files.entries, state, remark)
        finally:
            self._last = time.monotonic()
            self._writing_s = self._last - start


def write_report(facts: RunFacts, folder: Path, entries: Sequence[Entry], state: RunState, remark: str = "") -> None:
    """Write `report.html` into the run's folder atomically.

    Raises:
        OSError: it can't be written; the earlier page stays.
    """
    page = render(facts, folder, entries, state, remark)
    replace_file(folder / "report.html", page.encode())


def render(facts: RunFacts, folder: Path, entries: Sequence[Entry], state: RunState, remark: str = "") -> str:
    """Return the page as HTML: text from the data is escaped, and the page forbids scripts and loading of resources.

    Args:
        facts: the contents that stay the same.
        folder: the run's, with the pictures in `watch`.
        entries: the history so far.
        state: of the run.
        remark: the reason why the run stopped or ended early.
    """
    best = best_of(entries, facts.score)
    lineage = folder / LINEAGE_FILE
    calibration = bundle.read_manifest(folder / bundle.BUNDLE).calibration if (folder / bundle.BUNDLE).is_dir() else None
    return render_page(
        TEMPLATE,
        facts=facts,
        config=facts.config,
        state=state,
        remark=remark,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        step=max((entry[STEP] for entry in entries), default=0),
        seconds=entries[-1]["seconds"] if entries else 0.0,
        best=best,
        score=score_label(facts.score),
        sessions=json.loads(lineage.read_bytes()) if lineage.is_file() else [],
        curves=[curve_plot(entries, facts.score, scheme) for scheme in SCHEMES],
        scores={entry[STEP]: entry["scores"].get(facts.score) for entry in entries if "scores" in entry},
        settings=list_settings(facts.config),
        whole_config=schema.dump(facts.config),
        calibration=calibration,
        diagrams=[reliability_diagram(calibration, scheme) for scheme in SCHEMES] if calibration else [],
        **_pictures(folder / "watch", best[0] if best else None),
    )


def list_settings(config: Config) -> list[Setting]:
    """Return every key of the config with its value and its default."""
    settings = []
    for name in type(config).model_fields:
        section = getattr(config, name)
        values, fields = section.model_dump(mode="json"), type(section).model_fields
        for key, field in fields.items():
            default = None if field.is_required() else _text(_plain(field.get_default(call_default_factory=True)))
            settings.append(Setting(f"{name}.{key}", _text(values[key]), default))
    return settings


def _plain(value: Any) -> Any:
    """Return a default in the form that a value has in a dumped section."""
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return str(value) if isinstance(value, Path) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _pictures(watch: Path, best: int | None) -> dict[str, Any]:
    """Return the template's variables for the pictures that exist."""
    captions = read_captions(watch)
    steps = evenly_spaced(mask_steps(watch), best, MOST_COLUMNS)
    strips = []
    for number, (name, location) in enumerate(captions.get("cases", [])):
        image, pale, reference = (_content(watch / f"case{number}_{kind}.png") for kind in ("image", "pale", "reference"))
        masks = tuple((step, content) for step in steps if (content := _content(watch / mask_name(number, step))))
        if image and pale and reference:
            strips.append(Strip(name, location, image, pale, reference, masks))
    patches = enumerate(captions.get("batch", []))
    levels = enumerate(captions.get("levels", []))
    return {
        "strips": strips,
        "batch": [
            (caption, _content(watch / f"batch{number}.png"), _content(watch / f"batch{number}_weights.png"))
            for number, caption in patches
        ],
        "filters": [(caption, content) for caption, name in FILTERS if (content := _content(watch / name))],
        "levels": [
            (name, shape, content) for number, (name, shape) in levels if (content := _content(watch / f"level{number}.png"))
        ],
    }


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
