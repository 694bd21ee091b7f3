"""A run, while it goes on or afterwards -> one HTML file, in the look of the report of a comparison."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel

from configs import schema
from configs.schema import Config
from datasets.case_checks import Examination
from evaluation import rendering
from evaluation.comparison.measurement import describe_machine
from evaluation.inspection.data_summary import Inspection, summary_rows
from evaluation.report.html_page import render_page
from training.monitoring.curves import best_of, curve_plot, score_words
from training.monitoring.history import STEP, Entry, evenly, mask_name, mask_steps, read_captions, replace
from training.monitoring.layer_table import Summary, summarise
from training.resuming.lineage import LINEAGE, commit, versions

TEMPLATE = "run_page.html.j2"
MOST_COLUMNS = 6  # of masks through training
Rows = tuple[tuple[str, str], ...]
State = Literal["training", "stopped", "finished"]
FILTERS = (("before the first step", "filters_start.png"), ("now", "filters.png"))


@dataclass(frozen=True)
class RunFacts:
    """What a page says of a run that doesn't change while it goes on.

    Args:
        config: the run's.
        score: the name of what validation goes by, the higher the better.
        data: what the cases are, in words.
        made_with: machine, versions and commit, in words.
        summary: the network's layers.
    """

    config: Config
    score: str
    data: Rows
    made_with: Rows
    summary: Summary


@dataclass(frozen=True)
class Setting:
    """A key of the config, its value, and its default in words; no default where it has to be given."""

    key: str
    value: str
    default: str | None

    @property
    def differs(self) -> bool:
        """Whether somebody chose it."""
        return self.value != self.default


@dataclass(frozen=True)
class Strip:
    """A watched case through training, as PNG files; the masks with their step, to be laid over the pale image."""

    name: str
    where: str
    image: bytes
    pale: bytes
    reference: bytes
    masks: tuple[tuple[int, bytes], ...]


def describe_run(config: Config, score: str, examination: Examination, splits: Mapping[str, str]) -> RunFacts:
    """Gathers them.

    Args:
        config: the run's.
        score: the name of what validation goes by.
        examination: of the cases that train and validate.
        splits: train or val by case.
    """
    inspection = Inspection(config.data.path, examination, splits, 0, config.run.seed)
    training = [report.facts for report in examination.reports if splits.get(report.case.name) == "train"]
    digests = sorted(digest for facts in training if facts for digest in facts.sha256)
    listed = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    data = (*summary_rows(inspection), ("Training images", f"SHA-256 of their SHA-256, sorted: {listed}"))
    return RunFacts(config, score, data, _made_with(), summarise(config))


def write_report(facts: RunFacts, folder: Path, entries: Sequence[Entry], state: State, remark: str = "") -> None:
    """Writes `report.html` into the run's folder, whole or not at all.

    Raises:
        OSError: it can't be written; the page that was there stays.
    """
    page = render(facts, folder, entries, state, remark)
    replace(folder / "report.html", page.encode())


def render(facts: RunFacts, folder: Path, entries: Sequence[Entry], state: State, remark: str = "") -> str:
    """The page as HTML; every name out of the data is escaped, and the page forbids scripts and loads.

    Args:
        facts: what stays.
        folder: the run's, with the pictures in `watch`.
        entries: the history so far.
        state: what the run does now.
        remark: why it stopped.
    """
    best = best_of(entries, facts.score)
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
        score=score_words(facts.score),
        sittings=_sittings(folder / LINEAGE),
        curves=[curve_plot(entries, facts.score, scheme) for scheme in (rendering.LIGHT, rendering.DARK)],
        scores={entry[STEP]: entry["scores"].get(facts.score) for entry in entries if "scores" in entry},
        settings=settings(facts.config),
        whole_config=schema.dump(facts.config),
        **_pictures(folder / "watch", best[0] if best else None),
    )


def settings(config: Config) -> list[Setting]:
    """Every key of the config with its default."""
    found = []
    for name in type(config).model_fields:
        section = getattr(config, name)
        values, fields = section.model_dump(mode="json"), type(section).model_fields
        for key, field in fields.items():
            default = None if field.is_required() else _words(_plain(field.get_default(call_default_factory=True)))
            found.append(Setting(f"{name}.{key}", _words(values[key]), default))
    return found


def _plain(value: Any) -> Any:
    """As it stands in a dumped section."""
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return str(value) if isinstance(value, Path) else value


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _made_with() -> Rows:
    here = describe_machine()
    return (
        (
            "Machine",
            f"{here.processor}; cores: {here.cores}, torch threads: {here.threads}; device: {here.device}; {here.system}",
        ),
        ("Versions", ", ".join(f"{name} {number}" for name, number in versions().items())),
        ("Commit", commit() or "unknown"),
    )


def _sittings(path: Path) -> list[dict[str, Any]]:
    return cast(list[dict[str, Any]], json.loads(path.read_bytes())) if path.is_file() else []


def _pictures(watch: Path, best: int | None) -> dict[str, Any]:
    """What the template shows of the run's pictures, as far as they are there."""
    captions = read_captions(watch)
    return {
        "strips": _strips(watch, captions.get("cases", []), best),
        "batch": [(words, *_pair(watch, number)) for number, words in enumerate(captions.get("batch", []))],
        "filters": [(words, content) for words, name in FILTERS if (content := _content(watch / name))],
        "levels": [
            (name, shape, content)
            for number, (name, shape) in enumerate(captions.get("levels", []))
            if (content := _content(watch / f"level{number}.png"))
        ],
    }


def _strips(watch: Path, cases: Sequence[Any], best: int | None) -> list[Strip]:
    columns = evenly(mask_steps(watch), best, MOST_COLUMNS)
    strips = []
    for number, (name, where) in enumerate(cases):
        image, pale, reference = (_content(watch / f"case{number}_{what}.png") for what in ("image", "pale", "reference"))
        masks = tuple((step, content) for step in columns if (content := _content(watch / mask_name(number, step))))
        if image and pale and reference:
            strips.append(Strip(name, where, image, pale, reference, masks))
    return strips


def _pair(watch: Path, number: int) -> tuple[bytes | None, bytes | None]:
    """A patch of the first batch and its weights."""
    return _content(watch / f"batch{number}.png"), _content(watch / f"batch{number}_weights.png")


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
