"""The page of a run: with and without history, with text of the data escaped, and replaced atomically."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import schema
from datasets.case_checks import examine_cases, examine_dataset
from datasets.cases import read_cases
from evaluation.rendering import to_png
from tests.phantom import write_slide_dataset
from training.monitoring.curves import best_of, curve
from training.monitoring.history import Entry, MonitoringFolder, evenly_spaced, mask_name, read_history
from training.monitoring.page import RunFacts, describe_run, list_settings, render, write_report

HOSTILE = "<script>alert(1)</script></style>\"'><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> RunFacts:
    data = write_slide_dataset(tmp_path_factory.mktemp("data"), cases=3, shape=(40, 40)).parent
    overrides = (f"data.path={data}", "trainer.max_steps=40", "optimizer.learning_rate=0.002", "model.features=[4,8]")
    config = schema.load(Path("configs/histology_unet.yaml"), overrides)
    cases = read_cases(data, config.data)[:2]
    splits = {case.name: case.split or "" for case in cases}
    return describe_run(config, "dice", examine_dataset(examine_cases(cases), splits), splits)


def history(values: Mapping[int, float]) -> list[Entry]:
    trained = [{"step": step, "seconds": step / 10, "loss": 1 / step, "learning_rate": 0.002} for step in range(1, 40)]
    validated = [{"step": step, "seconds": step / 10, "scores": {"dice": value}} for step, value in values.items()]
    return sorted([*trained, *validated], key=lambda entry: entry["step"])


def fill(folder: Path, name: str) -> None:
    """Write pictures and captions of one case, one patch and one level."""
    watch = MonitoringFolder(folder / "watch")
    watch.open(0)
    png = to_png(np.zeros((2, 2, 3), np.uint8))
    for file in ("case0_image.png", "case0_pale.png", "case0_reference.png", "batch0.png", "filters.png", "level0.png"):
        watch.write_picture(file, png)
    for step in range(10, 50, 10):
        watch.write_picture(mask_name(0, step), png)
    watch.set_captions("cases", [(name, "the whole image")])
    watch.set_captions("batch", [name])
    watch.set_captions("levels", [("encoder 0", [4, 16, 16])])


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def test_a_run_without_history(facts: RunFacts, tmp_path: Path) -> None:
    html = render(facts, tmp_path, [], "training")
    assert "No validation yet. Training: 0 of 40 steps" in words(html)
    assert "The same images" not in html


def test_a_finished_run(facts: RunFacts, tmp_path: Path) -> None:
    fill(tmp_path, "case one")
    sitting = {"started": "2026-01-01T00:00:00+00:00", "step": 20, "device": "cpu", "threads": 1, "commit": None}
    (tmp_path / "lineage.json").write_text(json.dumps([sitting]))
    html = render(facts, tmp_path, history({10: 0.5, 20: float("nan"), 30: 0.8, 40: 0.8}), "finished")
    text = words(html)
    assert "Best validation Dice 0.800, at step 30. Finished: 40 of 40 steps in 4.00 s" in text
    assert "step 20 Dice \N{EN DASH} step 30 best Dice 0.800 step 40 Dice 0.800" in text
    assert "Cases 2 (1 train, 1 val)" in text
    assert "Training images SHA-256 of their SHA-256, sorted: " in text
    assert "optimizer.learning_rate 0.002 0.001" in text
    assert "2026-01-01T00:00:00+00:00 20 cpu 1 unknown" in text
    assert f"{facts.summary.parameters:,}" in text
    assert "schedule: poly" in html  # in the whole config


def test_names_from_the_data_are_escaped(facts: RunFacts, tmp_path: Path) -> None:
    fill(tmp_path, HOSTILE)
    classes = (facts.config.data.classes[0], facts.config.data.classes[1].model_copy(update={"name": HOSTILE}))
    config = facts.config.model_copy(update={"data": facts.config.data.model_copy(update={"classes": classes})})
    hostile = replace(facts, config=config, data=((HOSTILE, HOSTILE),), environment=((HOSTILE, HOSTILE),))
    html = render(hostile, tmp_path, history({10: 0.5}), "stopped", remark=HOSTILE)
    assert "<script" not in html
    assert "onerror=alert" not in html.replace("&gt;&lt;img src=x onerror=alert", "")
    assert html.count("</style>") == 1
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 8
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'" in html
    assert set(re.findall(r"(?:src|srcset)=\"([^\"]{0,11})", html)) <= {"data:image/"}


def test_a_page_that_cannot_be_written_leaves_the_old_one(facts: RunFacts, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("old")
    (tmp_path / "report.html.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_report(facts, tmp_path, [], "training")
    assert page.read_text() == "old"
    (tmp_path / "report.html.part").unlink()
    write_report(facts, tmp_path, [], "training")
    assert page.read_text().startswith("<!doctype html>")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_settings_name_their_defaults(facts: RunFacts) -> None:
    by_key = {setting.key: setting for setting in list_settings(facts.config)}
    assert (by_key["optimizer.learning_rate"].value, by_key["optimizer.learning_rate"].default) == ("0.002", "0.001")
    assert by_key["optimizer.learning_rate"].differs
    assert not by_key["optimizer.momentum"].differs
    assert by_key["data.dimensions"].default is None
    assert by_key["model.features"].value == "[4, 8]"
    assert not by_key["model.depths"].differs


def test_entries_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    watch = MonitoringFolder(tmp_path / "watch")
    watch.open(0)
    for entry in history({10: 0.5, 20: 0.6, 30: 0.7}):
        watch.append(entry)
    for step in (10, 20, 30):
        watch.write_picture(mask_name(0, step), b"png")
    with (tmp_path / "watch/history.jsonl").open("a") as file:
        file.write('{"step": 40, "sec')  # cut off by a kill
    again = MonitoringFolder(tmp_path / "watch")
    again.open(20)  # the checkpoint precedes the validation of step 20, which is repeated
    assert again.entries == read_history(tmp_path / "watch")
    assert curve(again.entries, "loss")[0] == list(range(1, 21))
    assert best_of(again.entries, "dice") == (10, 0.5)
    assert sorted(path.name for path in again.folder.glob("mask*")) == [mask_name(0, 10), mask_name(0, 20)]


@given(st.sets(st.integers(0, 10**6), min_size=1, max_size=60), st.integers(3, 24), st.data())
def test_evenly_spaced_steps_include_the_first_the_last_and_the_best(steps: set[int], most: int, data: st.DataObject) -> None:
    rising = sorted(steps)
    best = data.draw(st.sampled_from(rising))
    selection = evenly_spaced(rising, best, most)
    assert {rising[0], rising[-1], best} <= set(selection) <= steps
    assert selection == sorted(selection)
    assert len(selection) <= most
    assert len(rising) > most or selection == rising


def test_masks_of_a_limited_number_of_validations_stay(tmp_path: Path) -> None:
    watch = MonitoringFolder(tmp_path)
    watch.open(0)
    for step in range(1, 200):
        watch.write_picture(mask_name(0, step), b"")
        watch.limit_masks(best=77 if step >= 77 else None)
    steps = [int(path.stem.split("_")[1]) for path in sorted(tmp_path.glob("mask*"))]
    assert len(steps) <= 24
    assert {1, 77, 199} <= set(steps)
    assert max(np.diff(steps)) < 30
