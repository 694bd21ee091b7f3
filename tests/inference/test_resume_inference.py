"""Resuming of interrupted work: it continues where it stopped, and its files are identical to those of a whole run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_bundles import make_bundle

from datasets.inputs import find_inputs
from imaging.errors import DataError
from imaging.open import open_image
from inference import resume
from inference.plan import AnyPredictor
from inference.predict import Outcome, predict
from inference.predictors.ensemble import load_ensemble
from inference.predictors.loading import load_predictor
from inference.request import OutputRequest
from inference.resume import JOURNAL, Journal
from inference.segment import Segmentation
from models import bundle
from tests.phantom import write_pyramid_slide

CPU = torch.device("cpu")
EXACT = ("model.norm=batch", "inference.tile_size=[48,48]")
Interrupt = Callable[[int, int], None]
ALL = OutputRequest(probabilities="uint8", uncertainty=True, objects=True)


@pytest.fixture(autouse=True)
def sync_every_band(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the journal after every band instead of once a second."""
    monkeypatch.setattr(resume, "LEAST_INTERVAL_S", 0.0)
    monkeypatch.setattr(resume, "SYNC_SHARE", 1e9)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Write a slide with a spacing of 0.25 micrometres."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 403, 90), np.uint8)
    write_pyramid_slide(tmp_path / "slide.svs", pixels, spacing_um=0.25)
    return tmp_path / "slide.svs"


def run(
    image: Path,
    predictor: AnyPredictor,
    out: Path,
    request: OutputRequest = ALL,
    interrupt: Interrupt = lambda done, total: None,
) -> Outcome:
    """Segment one image; `interrupt` is called with the number of finished tiles and of all tiles."""
    return next(predict(find_inputs([image]).images, predictor, out, request, lambda path, done, total: interrupt(done, total)))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def stop_at(share: float, error: type[BaseException] = KeyboardInterrupt) -> Interrupt:
    """Return an `interrupt` that raises the error once that share of the tiles is finished."""

    def interrupt(done: int, total: int) -> None:
        if done >= share * total:
            raise error("interrupted")

    return interrupt


def predictors(folder: Path) -> dict[str, Callable[[], AnyPredictor]]:
    """Return functions that load predictors: exact, blended, of coarser and finer spacing, and an ensemble."""
    kinds: dict[str, tuple[str, ...]] = {
        "exact": EXACT,
        "blended": (),
        "coarse": (*EXACT, "data.spacing_um=[0.5,0.5]"),
        "fine": ("data.spacing_um=[0.15,0.2]",),
    }
    bundles = {name: make_bundle(folder / name, 0, "unet", *overrides) for name, overrides in kinds.items()}
    window = make_bundle(folder / "window", 1, "sliding_window")
    load: dict[str, Callable[[], AnyPredictor]] = {
        name: lambda loaded=loaded: load_ensemble([loaded], CPU) for name, loaded in bundles.items()
    }
    return {**load, "several": lambda: load_ensemble([bundles["exact"], bundles["blended"], window], CPU)}


@pytest.mark.parametrize("kind", ["exact", "blended", "coarse", "fine", "several"])
def test_interrupted_work_resumes_and_ends_the_same(tmp_path: Path, picture: Path, kind: str) -> None:
    load = predictors(tmp_path / "bundles")[kind]
    whole = run(picture, load(), tmp_path / "whole")
    assert isinstance(whole.result, Segmentation)
    rows = set()
    for share in (0.01, 0.3, 0.45, 0.6, 0.75, 0.95):
        out = tmp_path / f"broken {share}"
        with pytest.raises(KeyboardInterrupt):
            run(picture, load(), out, interrupt=stop_at(share))
        assert [path.name for path in out.iterdir()] == [".slide.unfinished"]
        again = run(picture, load(), out)
        assert isinstance(again.result, Segmentation)
        rows.add(again.result.resumed_row)
        assert files_of(out) == files_of(tmp_path / "whole")
    assert max(rows) > 200
    assert len(rows) > 3


def test_the_text_names_the_row_where_work_resumed(tmp_path: Path, picture: Path) -> None:
    load = predictors(tmp_path / "bundles")["exact"]
    with pytest.raises(KeyboardInterrupt):
        run(picture, load(), tmp_path / "out", interrupt=stop_at(0.5))
    again = run(picture, load(), tmp_path / "out")
    assert isinstance(again.result, Segmentation)
    assert f"resumed from row {again.result.resumed_row}" in again.result.text


def test_resumed_work_keeps_its_tile_size(tmp_path: Path) -> None:
    loaded = make_bundle(tmp_path / "bundle", 0, "unet", "model.norm=batch", "inference.tile_size=null")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 700, 3), np.uint8)).save(tmp_path / "picture.png")
    tight, roomy = (load_predictor(loaded, CPU) for _ in range(2))
    small = {"inference": tight.config.inference.model_copy(update={"tile_size": (200, 200)})}  # as with less memory
    tight = replace(tight, config=tight.config.model_copy(update=small))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "picture.png", tight, tmp_path / "out", OutputRequest(), stop_at(0.5))
    journal = Journal.model_validate_json((tmp_path / "out" / ".picture.unfinished" / JOURNAL).read_bytes())
    assert journal.rows > 0
    again = run(tmp_path / "picture.png", roomy, tmp_path / "out", OutputRequest())
    assert isinstance(again.result, Segmentation)
    assert again.result.resumed_row == journal.rows
    assert again.result.tiles > 1


@pytest.mark.parametrize("change", ["image", "bundle", "request", "journal"])
def test_other_work_starts_from_the_beginning(tmp_path: Path, picture: Path, change: str) -> None:
    folder, out, request = tmp_path / "bundles", tmp_path / "out", ALL
    load = predictors(folder)["exact"]
    with pytest.raises(KeyboardInterrupt):
        run(picture, load(), out, interrupt=stop_at(0.5))
    if change == "image":
        os.utime(picture, (1, 1))
    if change == "bundle":
        load = predictors(tmp_path / "others")["blended"]
    if change == "request":
        request = OutputRequest(probabilities="uint8")
    if change == "journal":
        (out / ".slide.unfinished" / JOURNAL).write_text("{")
    again = run(picture, load(), out, request)
    assert isinstance(again.result, Segmentation)
    assert again.result.resumed_row == 0
    assert not (out / ".slide.unfinished").exists()


def test_overwritten_work_starts_from_the_beginning(tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check work that is interrupted, overwritten by other work that is interrupted before its first row, and repeated."""
    load, out = predictors(tmp_path / "bundles"), tmp_path / "out"
    run(picture, load["exact"](), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(picture, load["exact"](), out, interrupt=stop_at(0.7))
    monkeypatch.setattr(resume, "LEAST_INTERVAL_S", 1e9)
    with pytest.raises(KeyboardInterrupt):
        run(picture, load["blended"](), out, interrupt=stop_at(0.7))
    run(picture, load["exact"](), out)
    assert files_of(out) == files_of(tmp_path / "whole")


def test_a_kill_while_the_files_are_made_leaves_nothing_behind(tmp_path: Path, picture: Path) -> None:
    """Check that unfinished files are in the folder that the next run clears."""
    load, out = predictors(tmp_path / "bundles")["exact"], tmp_path / "out"
    run(picture, load(), tmp_path / "whole")
    half = """
import os, sys
from pathlib import Path
from disk import publish
publish.sync = lambda path: os._exit(9)  # dies when the first file is made and isn't in its place yet
from overtile import app
app()
"""
    words = ["predict", str(picture), "-b", str(tmp_path / "bundles" / "exact"), "-o", str(out)]
    died = subprocess.run(
        [sys.executable, "-c", half, *words, "--probabilities", "uint8", "--uncertainty", "--objects"], check=False
    )
    assert died.returncode == 9
    assert [path.name for path in out.iterdir()] == [".slide.unfinished"]
    assert [path for path in (out / ".slide.unfinished").iterdir() if ".part." in path.name]
    run(picture, load(), out)
    assert files_of(out) == files_of(tmp_path / "whole")


def test_a_kill_while_objects_are_found_costs_no_tile(tmp_path: Path, picture: Path) -> None:
    load, out = predictors(tmp_path / "bundles")["exact"], tmp_path / "out"
    run(picture, load(), tmp_path / "whole", OutputRequest(objects=True))
    dying = """
import os
from inference import resume
from inference.outputs import object_files
resume.LEAST_INTERVAL_S, resume.SYNC_SHARE = 0.0, 1e9
object_files.ObservedRows.read = lambda self, region: os._exit(9)
from overtile import app
app()
"""
    words = ["predict", str(picture), "-b", str(tmp_path / "bundles" / "exact"), "-o", str(out), "--objects"]
    assert subprocess.run([sys.executable, "-c", dying, *words], check=False).returncode == 9
    assert [path.name for path in out.iterdir()] == [".slide.unfinished"]
    again = run(picture, load(), out, OutputRequest(objects=True))
    assert isinstance(again.result, Segmentation)
    assert again.result.resumed_row == 403
    assert files_of(out) == files_of(tmp_path / "whole")


def test_an_image_that_cant_be_read_leaves_nothing(tmp_path: Path, picture: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise DataError("broken", "a tile can't be decoded")

    outcome = run(picture, predictors(tmp_path / "bundles")["exact"](), tmp_path / "out", interrupt=interrupt)
    assert isinstance(outcome.result, DataError)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_leaves_what_is_done(tmp_path: Path, picture: Path) -> None:
    with pytest.raises(OSError, match="interrupted"):
        run(picture, predictors(tmp_path / "bundles")["exact"](), tmp_path / "out", interrupt=stop_at(0.5, OSError))
    assert (tmp_path / "out" / ".slide.unfinished" / JOURNAL).exists()


def test_the_whole_images_label_needs_all_of_it(tmp_path: Path, picture: Path) -> None:
    overrides = (*EXACT, "image_label.classes=[a,b]", "image_label.by=joint")
    loaded = make_bundle(tmp_path / "bundle", 0, "unet", *overrides)
    with pytest.raises(KeyboardInterrupt):
        run(picture, load_ensemble([loaded], CPU), tmp_path / "out", interrupt=stop_at(0.5))
    assert not (tmp_path / "out" / ".slide.unfinished").exists()


def test_two_processes_dont_work_on_one_image(tmp_path: Path, picture: Path) -> None:
    load = predictors(tmp_path / "bundles")["exact"]
    (tmp_path / "out" / ".slide.unfinished").mkdir(parents=True)
    lock = tmp_path / "out" / ".slide.unfinished" / resume.LOCK
    hold = """
import sys
from pathlib import Path
from disk.lock import only_one
with only_one(Path(sys.argv[1])):
    print(flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        refused = run(picture, load(), tmp_path / "out")
        other.communicate()
    assert isinstance(refused.result, DataError)
    assert refused.result.code == "at_work"
    assert f"(process {other.pid})" in refused.result.message
    assert lock.exists()
    assert isinstance(run(picture, load(), tmp_path / "out").result, Segmentation)


def test_killed_through_the_command_line_it_goes_on(tmp_path: Path) -> None:
    """Check a command that is killed (SIGKILL) once some rows are on the disk, and then repeated."""
    loaded = make_bundle(tmp_path / "bundle", 0, "unet", *EXACT, "inference.tile_size=[200,1000]", "model.features=[16,32,64]")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (3000, 1000, 3), np.uint8)).save(tmp_path / "picture.png")
    command = [sys.executable, "-m", "overtile", "predict", str(tmp_path / "picture.png"), "-b", str(loaded.folder), "-o"]

    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    killed = subprocess.Popen([*command, str(tmp_path / "killed")])
    journal = tmp_path / "killed" / ".picture.unfinished" / JOURNAL
    while killed.poll() is None and not journal.exists():
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, "done before anything was on the disk: the picture is too small"
    done = subprocess.run([*command, str(tmp_path / "killed")], capture_output=True, text=True, check=True)
    assert "resumed from row" in done.stderr
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    with open_image(tmp_path / "killed" / "picture.png", labels=True) as mask:
        assert mask.shape == (3000, 1000)
    assert bundle.load(loaded.folder).manifest == loaded.manifest
