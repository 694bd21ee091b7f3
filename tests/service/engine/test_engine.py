"""The engine: a process that answers, goes on after it was killed, and leaves nothing behind."""

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers import UNET, is_running, png, wait_until, write_bundle

from datasets.channels import ImageInput
from imaging.errors import DataError, UnsuitableImage
from inference.predict import Step
from service.engine.errors import Cancelled, EngineCrashed, ModelGone
from service.engine.job_results import StepProgress
from service.engine.supervisor import Call, Supervisor

COMPARED = ("comparison.json", "disagreement.png", "report.html")
OBJECTS = ("_objects.tiff", "_objects.csv", "_objects.geojson")
MAPS = (".png", "_uncertainty.tiff", "_probabilities.tiff")
NO_OPTIONS: dict[str, Any] = {"kind": "segment"}


@pytest.fixture(scope="module")
def engine(
    bundles: dict[str, Path], environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Supervisor]:
    settings = {"at_once": 2, "runtime": None, "memory_bytes": None}
    models = tmp_path_factory.mktemp("models")
    instances = write_bundle(models / "instances", "instances", UNET, instances=True)
    folders = {**bundles, "instances": instances, "broken": models / "nowhere"}
    started = Supervisor(settings, folders, environment, timeout_s=20)
    started.start(120)
    yield started
    process = started.process_id
    started.stop()
    assert process is not None
    wait_until(lambda: not is_running(process), timeout_s=5)


def job_of(folder: Path, *files: bytes, **options: Any) -> dict[str, Any]:
    (folder / "inputs").mkdir(parents=True)
    for number, file in enumerate(files):
        (folder / "inputs" / str(number)).write_bytes(file)
    return {"folder": str(folder), "smaller": 0, "formats": [], "options": {**NO_OPTIONS, **options}}


def results_of(call: Call, folder: Path) -> dict[str, bytes]:
    answer = call.future.result(60)
    found = {}
    for each in answer["results"]:
        content = (folder / "results" / each["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == each["sha256"]
        assert len(content) == each["bytes"]
        found[each["name"]] = content
    assert not (folder / "work").exists()
    return found


def test_progress_is_told_in_tiles(engine: Supervisor, tmp_path: Path) -> None:
    picture, told = png(np.zeros((3, 40, 40), np.uint8)), []  # one tile, whatever the formats
    words = {**job_of(tmp_path, picture), "formats": ["png", "tiff"]}
    engine.ask("job", lambda done, total: told.append((done, total)), models=["unet"], **words).future.result(60)
    assert told[0] in ((0, 1), (1, 1))
    assert {total for _, total in told} == {1}


def test_progress_counts_objects_as_a_tenth_of_the_tiles() -> None:
    told: list[tuple[int, int]] = []
    image = ImageInput((Path("slide"),), "slide")
    for tiles, has_objects in ((20, True), (1, True), (5, False)):
        progress = StepProgress(lambda done, total: told.append((done, total)), has_objects=has_objects)
        progress.report(Step(image), tiles, tiles)
        if has_objects:
            progress.report(Step(image, "objects"), 300, 600)
            progress.report(Step(image, "objects"), 600, 600)
    assert told == [(20, 22), (21, 22), (22, 22), (1, 2), (1, 2), (2, 2), (5, 5)]


def test_models_that_are_broken_dont_keep_the_others_from_it(engine: Supervisor) -> None:
    assert set(engine.models) == {"unet", "window", "volume", "fine", "three", "instances"}
    assert list(engine.broken) == ["broken"]
    assert engine.broken["broken"].code == "model_broken"
    assert "nowhere" not in engine.broken["broken"].message


def test_a_small_image(engine: Supervisor, picture: bytes, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(picture)
    words = {"path": str(tmp_path / "image"), "model": "unet", "format": None, "spacing_um": None, "axes": None}
    answer = engine.ask("segment", **words).future.result(60)
    assert Path(answer["file"]).read_bytes().startswith(b"\x89PNG")
    assert answer["media_type"] == "image/png"


@pytest.mark.parametrize(
    ("models", "options", "names"),
    [
        (["unet"], {}, {"mask.png", "mask_summary.json"}),
        (["unet", "window"], {}, {"unet.png", "unet_summary.json", "window.png", "window_summary.json"}),
        (["unet"], {"uncertainty": True, "probabilities": "uint8"}, {f"mask{each}" for each in (*MAPS, "_summary.json")}),
        (
            ["unet", "window"],
            {"as_ensemble": True, "disagreement": True},
            {"mask.png", "mask_disagreement.tiff", "mask_summary.json"},
        ),
        (
            ["unet", "window"],
            {"kind": "compare"},
            {
                "unet.png",
                "unet_summary.json",
                "window.png",
                "window_summary.json",
                "comparison.json",
                "disagreement.png",
                "report.html",
            },
        ),
        (["unet"], {"objects": True}, {f"mask{each}" for each in (".png", "_summary.json", *OBJECTS)}),
        (["instances"], {}, {f"mask{each}" for each in (".png", "_summary.json", *OBJECTS)}),
        (["instances"], {"objects": False}, {"mask.png", "mask_summary.json"}),
    ],
    ids=["one", "two", "maps", "ensemble", "compare", "objects", "objects unasked", "no objects"],
)
def test_what_a_job_makes(
    engine: Supervisor, picture: bytes, tmp_path: Path, models: list[str], options: dict[str, Any], names: set[str]
) -> None:
    words = job_of(tmp_path, picture, **options)
    made = results_of(engine.ask("job", models=models, **words), tmp_path)
    assert set(made) == names
    again = results_of(engine.ask("job", models=models, **words), tmp_path)
    assert again == made
    if "comparison.json" in made:
        compared = json.loads(made["comparison.json"])
        assert 0 <= compared["agreement"] <= 1
        assert [each["name"] for each in compared["models"]] == models
        page = made["report.html"].decode()
        assert f"the same class in {compared['agreement']:.1%} of the pixels" in page
        assert page.count("<figure>") == 4


def test_formats_and_folders_that_become_one_file(engine: Supervisor, picture: bytes, tmp_path: Path) -> None:
    words = {**job_of(tmp_path, picture), "formats": ["png", "tiff", "ome-zarr", "geojson"]}
    made = results_of(engine.ask("job", models=["unet"], **words), tmp_path)
    assert set(made) == {"mask.png", "mask.tiff", "mask.ome.zarr.zip", "mask.geojson", "mask_summary.json"}


def test_a_killed_engine_fails_its_calls_and_goes_on(engine: Supervisor, picture: bytes, tmp_path: Path) -> None:
    reference = results_of(engine.ask("job", models=["unet"], **job_of(tmp_path / "a", picture)), tmp_path / "a")
    words = job_of(tmp_path / "b", picture)
    call = engine.ask("job", models=["unet"], **words)
    process = engine.process_id
    assert process is not None
    os.kill(process, signal.SIGKILL)
    with pytest.raises(EngineCrashed):
        call.future.result(30)
    wait_until(lambda: engine.is_ready and engine.process_id != process, timeout_s=60)
    assert results_of(engine.ask("job", models=["unet"], **words), tmp_path / "b") == reference


def test_errors_come_over_as_they_are(engine: Supervisor, picture: bytes, tmp_path: Path) -> None:
    with pytest.raises(UnsuitableImage, match="image has 2 dimensions, the model takes 3"):
        engine.ask("job", models=["volume"], **job_of(tmp_path / "a", picture)).future.result(60)
    with pytest.raises(DataError, match="format isn't supported"):
        engine.ask("job", models=["unet"], **job_of(tmp_path / "b", b"no image")).future.result(60)
    with pytest.raises(ModelGone):
        engine.ask("job", models=["nothing"], **job_of(tmp_path / "c", picture)).future.result(60)


def test_what_is_called_off_ends(engine: Supervisor, big_picture: bytes, tmp_path: Path) -> None:
    begun = threading.Event()
    words = job_of(tmp_path, big_picture)
    call = engine.ask("job", lambda done, total: begun.set(), models=["window"], **words)
    assert begun.wait(60)
    began = time.monotonic()
    call.cancel()
    with pytest.raises(Cancelled):
        call.future.result(30)
    assert time.monotonic() - began < 10


def test_models_come_and_go(engine: Supervisor, bundles: dict[str, Path], picture: bytes, tmp_path: Path) -> None:
    engine.unload("fine").future.result(30)
    assert "fine" not in engine.models
    engine.load("fine", bundles["fine"]).future.result(30)
    assert "fine" in engine.models


def test_a_hanging_engine_is_ended(engine: Supervisor) -> None:
    process = engine.process_id
    assert process is not None
    os.kill(process, signal.SIGSTOP)
    wait_until(lambda: engine.process_id != process and engine.is_ready, timeout_s=90)
