"""A run that is killed, stopped or out of disk space resumes and gets the same weights to the last bit."""

import errno
import json
import shutil
import signal
import time
from pathlib import Path

import pytest
from forked import METHODS, STEP, VALIDATION, Moment, overtile, start, weights_of, words

from models import bundle
from tests.phantom import write_slide_dataset


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide_dataset(tmp_path_factory.mktemp("slides"), cases=4, shape=(48, 52)).parent


@pytest.fixture(scope="module")
def whole(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """Weights of uninterrupted runs."""
    digests = {}
    for method in METHODS:
        folder = tmp_path_factory.mktemp(method)
        assert overtile(words(slides, folder, method), folder / "log") == 0, (folder / "log").read_text()
        digests[method] = weights_of(folder / "run")
    return digests


@pytest.mark.parametrize(
    ("method", "workers", "moment"),
    [
        ("unet", 0, Moment("training.run:prepare_session")),
        ("unet", 0, Moment(STEP)),  # at the first step, before any checkpoint
        ("unet", 2, Moment(STEP, after=True)),
        ("sliding_window", 0, Moment(STEP, 5)),
        ("unet", 0, Moment("training.resuming.checkpoint:_write", 2, after=True)),  # before it is renamed
        ("unet", 2, Moment("training.resuming.checkpoint:Checkpoints._delete_all_but", 4)),  # while there are three files
        ("sliding_window", 2, Moment(VALIDATION)),
        ("unet", 0, Moment(VALIDATION, 2, after=True)),
        ("unet", 0, Moment("training.resuming.saving:save_file", after=True)),  # the best network
        ("sliding_window", 0, Moment("training.resuming.saving:RunScheduler.on_validation_end", 2, after=True)),
        ("unet", 2, Moment(STEP, 7, after=True)),  # before the last validation
        ("unet", 0, Moment("models.manifest:Manifest.model_validate")),  # while the bundle is incomplete
    ],
    ids=lambda value: f"{value.function}-{value.count}" if isinstance(value, Moment) else str(value),
)
def test_a_killed_run_resumes_exactly(
    method: str, workers: int, moment: Moment, slides: Path, tmp_path: Path, whole: dict[str, tuple[str, str]]
) -> None:
    command = words(slides, tmp_path, method, f"trainer.workers={workers}")
    assert overtile(command, tmp_path / "log", [moment]) == -signal.SIGKILL
    assert not (tmp_path / "run" / "bundle").exists()
    assert overtile(command, tmp_path / "log") == 0, (tmp_path / "log").read_text()
    assert weights_of(tmp_path / "run") == whole[method]
    left = {path.name for path in (tmp_path / "run").rglob("*") if path.name.startswith(".")}
    assert not left  # no partial files


def test_batches_that_accumulate_to_a_step(slides: Path, tmp_path: Path) -> None:
    """A run is killed or stopped within a step; for a stop, the step ends before the checkpoint is written."""
    digests = []
    for number, moments in enumerate([[], [Moment(STEP, 8)], [Moment(STEP, 8, signal.SIGTERM)]]):
        folder = tmp_path / str(number)
        folder.mkdir()
        command = words(slides, folder, "unet", "optimizer.accumulate=3", "trainer.workers=1")
        code = overtile(command, folder / "log", moments)
        if moments:
            assert code == (143 if moments[0].act == signal.SIGTERM else -signal.SIGKILL)
            assert overtile(command, folder / "log") == 0, (folder / "log").read_text()
        digests.append(weights_of(folder / "run"))
        assert bundle.load(folder / "run" / "bundle").manifest.training_steps == 7
    assert len(set(digests)) == 1


def test_workers_have_no_effect_and_several_kills_may_follow(
    slides: Path, tmp_path: Path, whole: dict[str, tuple[str, str]]
) -> None:
    for count, (workers, moment) in enumerate([(2, Moment(STEP, 2)), (1, Moment(VALIDATION)), (0, Moment(STEP, 2))]):
        command = words(slides, tmp_path, "unet", f"trainer.workers={workers}", f"trainer.cache_mib={100 + count}")
        assert overtile(command, tmp_path / "log", [moment]) == -signal.SIGKILL
    assert overtile(words(slides, tmp_path), tmp_path / "log") == 0, (tmp_path / "log").read_text()
    assert weights_of(tmp_path / "run") == whole["unet"]
    sessions = json.loads((tmp_path / "run" / "lineage.json").read_text())
    assert [session["step"] for session in sessions] == sorted(session["step"] for session in sessions)
    assert len(sessions) == 4


@pytest.fixture
def stopped(slides: Path, tmp_path: Path) -> Path:
    """A run's folder with checkpoints at steps 3 and 4."""
    assert overtile(words(slides, tmp_path), tmp_path / "log", [Moment(STEP, 4, after=True)]) == -signal.SIGKILL
    assert [path.name[:13] for path in sorted((tmp_path / "run/checkpoints").glob("*.ckpt"))] == [
        "step-00000003",
        "step-00000004",
    ]
    return tmp_path / "run"


@pytest.mark.parametrize("fault", ["cut", "flipped", "empty", "another run's"])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(
    fault: str, stopped: Path, slides: Path, whole: dict[str, tuple[str, str]]
) -> None:
    last = max((stopped / "checkpoints").glob("*.ckpt"))
    content = bytearray(last.read_bytes())
    if fault == "flipped":
        content[len(content) // 2] ^= 1
    elif fault == "another run's":
        other = stopped.parent / "other"
        command = words(slides, other, "unet", "run.seed=5")
        assert overtile(command, stopped.parent / "log", [Moment(STEP, 4, after=True)]) == -signal.SIGKILL
        last.unlink()
        last = Path(shutil.copy(max((other / "run/checkpoints").glob("*.ckpt")), stopped / "checkpoints"))
        content = bytearray(last.read_bytes())
    last.write_bytes({"cut": content[:-9], "empty": b""}.get(fault, content))
    assert overtile(words(slides, stopped.parent), stopped.parent / "log") == 0, (stopped.parent / "log").read_text()
    output = (stopped.parent / "log").read_text()
    assert f"{last}: is" in output
    assert ("is from a run with another config or other data" in output) == (fault == "another run's")
    assert "resumes from" in output
    assert "step-00000003" in output
    assert weights_of(stopped) == whole["unet"]


def test_without_a_valid_checkpoint_a_run_does_not_start_again(stopped: Path, slides: Path) -> None:
    for path in (stopped / "checkpoints").glob("*.ckpt"):
        path.write_bytes(path.read_bytes()[1:])
    assert overtile(words(slides, stopped.parent), stopped.parent / "log") == 6
    output = (stopped.parent / "log").read_text()
    assert "none of 2 checkpoints is valid; restore one, or delete the folder to start again" in output


def test_other_data_is_refused(stopped: Path, slides: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(slides, data)
    config = (stopped / "config.yaml").read_text()
    (stopped / "config.yaml").write_text(config.replace(str(slides), str(data)))
    shutil.copy(data / "references/case001.png", data / "references/case000.png")
    assert overtile(words(data, stopped.parent), stopped.parent / "log") == 3
    output = (stopped.parent / "log").read_text()
    assert "files of case000 changed since the run began; restore them, or choose another run.name" in output


def test_another_machine_is_reported_and_recorded(stopped: Path, slides: Path) -> None:
    lineage = stopped / "lineage.json"
    (session,) = json.loads(lineage.read_text())
    lineage.write_text(json.dumps([{**session, "threads": 64}]))
    assert overtile(words(slides, stopped.parent), stopped.parent / "log") == 0
    assert (
        "run: resumes with another threads 64 -> 1; the weights' last digits may differ" in (stopped.parent / "log").read_text()
    )
    assert [session["threads"] for session in json.loads(lineage.read_text())] == [64, 1]


def test_two_trainings_in_one_folder(slides: Path, tmp_path: Path) -> None:
    first = start(words(slides, tmp_path), tmp_path / "log", [Moment(STEP, 2, signal.SIGSTOP)])
    deadline = time.monotonic() + 60
    while not list((tmp_path / "run").glob("checkpoints/*.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert overtile(words(slides, tmp_path), tmp_path / "second") == 2
    output = (tmp_path / "second").read_text()
    assert f"{tmp_path / 'run'}: another training is running here (process {first.pid}); wait for it, stop it" in output
    first.kill()
    first.join()
    assert overtile(words(slides, tmp_path), tmp_path / "second") == 0


def test_a_full_disk_ends_with_6_and_leaves_checkpoints_unchanged(
    stopped: Path, slides: Path, whole: dict[str, tuple[str, str]]
) -> None:
    before = {path: path.read_bytes() for path in (stopped / "checkpoints").glob("*.ckpt")}
    full = Moment("training.resuming.checkpoint:os.write", 1, errno.ENOSPC, fails=True, from_then_on=True)
    assert overtile(words(slides, stopped.parent), stopped.parent / "log", [full]) == 6
    output = (stopped.parent / "log").read_text()
    assert "the checkpoint of step 5 can't be written (No space left on device); earlier ones are unchanged" in output
    assert {path: path.read_bytes() for path in (stopped / "checkpoints").iterdir() if path.suffix == ".ckpt"} == before
    assert overtile(words(slides, stopped.parent), stopped.parent / "log") == 0
    assert weights_of(stopped) == whole["unet"]
