"""Signals, time limits and workers: a stopped run saves first; one whose time is over validates and publishes."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest
from forked import STEP, VALIDATION, Moment, Setting, Trap, overtile, start, weights_of, words

from models import bundle
from tests.phantom import write_slide_dataset
from training.clock import Clock
from training.errors import Stopped
from training.resuming.stopping import StopSignals


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide_dataset(tmp_path_factory.mktemp("slides"), cases=4, shape=(48, 52)).parent


@pytest.fixture(scope="module")
def whole(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("whole")
    assert overtile(words(slides, folder), folder / "log") == 0, (folder / "log").read_text()
    return weights_of(folder / "run")


RARELY = "trainer.checkpoint_minutes=60"
CUT = "training.data.patch_dataset:PatchDataset._cut"


@pytest.mark.parametrize(
    ("number", "moment", "workers"),
    [
        (signal.SIGTERM, "training.data.examination:examine_cases", 0),
        (signal.SIGTERM, STEP, 2),
        (signal.SIGINT, "training.module:SegmentationModule.training_step", 0),
        (signal.SIGTERM, VALIDATION, 2),
        (signal.SIGINT, "training.resuming.checkpoint:_write", 0),
        (signal.SIGTERM, "training.publishing:load_file", 0),
    ],
)
def test_a_run_saves_its_state_on_a_signal(
    number: int, moment: str, workers: int, slides: Path, tmp_path: Path, whole: tuple[str, str]
) -> None:
    """A second signal right after it has no effect, and the run resumes exactly."""
    command = words(slides, tmp_path, "unet", RARELY, f"trainer.workers={workers}")
    traps = [Moment(moment, count, number) for count in (1, 1)]
    assert overtile(command, tmp_path / "log", traps) == 128 + number, (tmp_path / "log").read_text()
    if moment in (STEP, "training.module:SegmentationModule.training_step"):
        assert [path.name[:13] for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-00000001"]
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert "run: stopped; run the same command to resume" in (tmp_path / "log").read_text()
    assert overtile(command, tmp_path / "log") == 0, (tmp_path / "log").read_text()
    assert weights_of(tmp_path / "run") == whole


def test_a_signal_to_the_whole_group_leaves_workers_to_the_main_process(
    slides: Path, tmp_path: Path, whole: tuple[str, str]
) -> None:
    """The end of a terminal or of a job sends a signal to every process."""
    command = words(slides, tmp_path, "unet", RARELY, "trainer.workers=2")
    process = start(command, tmp_path / "log", [Moment(STEP, 2, signal.SIGSTOP)])
    deadline = time.monotonic() + 60
    while not _stopped(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert len(children) >= 2
    for child in [*children, process.pid]:
        os.kill(child, signal.SIGTERM)
    os.kill(process.pid, signal.SIGCONT)
    process.join(60)
    assert process.exitcode == 143, (tmp_path / "log").read_text()
    assert overtile(command, tmp_path / "log") == 0
    assert weights_of(tmp_path / "run") == whole


def test_earlier_signal_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with StopSignals() as signals:
        signals.stop_immediately = False
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Stopped) as caught:
            signals.stop_if_received()
    assert caught.value.code == 143
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize(
    ("traps", "message"),
    [
        ([Moment(CUT, 3)], ": the process that cut its patches died; if memory ran out, lower trainer.workers"),
        (
            [Moment(CUT, 3, signal.SIGSTOP), Setting("training.data.stream:STALL_S", 4)],
            ": no patch came for 4 s; check that its files can be read",
        ),
        ([Moment(CUT, 3, errno.EIO, fails=True)], ": no patch can be cut: OSError: [Errno 5] Input/output error; check its"),
    ],
    ids=["killed", "hangs", "raises"],
)
def test_a_failing_worker_is_reported_with_its_case(
    traps: list[Trap], message: str, slides: Path, tmp_path: Path, whole: tuple[str, str]
) -> None:
    command = words(slides, tmp_path, "unet", "trainer.workers=2")
    began = time.monotonic()
    assert overtile(command, tmp_path / "log", traps) == 3, (tmp_path / "log").read_text()
    assert time.monotonic() - began < 60
    message_line = (tmp_path / "log").read_text().splitlines()[-1]
    assert message_line.startswith("case case00")
    assert message in message_line
    assert overtile(command, tmp_path / "log") == 0
    assert weights_of(tmp_path / "run") == whole


def test_a_data_error_in_a_worker_keeps_its_message(slides: Path, tmp_path: Path) -> None:
    """The file is damaged after the examination."""
    table = (slides / "cases.csv").read_text()
    for name in ("images", "references"):
        (tmp_path / name).mkdir()
        for file in (slides / name).iterdir():
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    (tmp_path / "cases.csv").write_text(table)
    swap = Setting("training.session:make_sampler", BreakAfter(tmp_path))
    command = words(tmp_path, tmp_path, "unet", "trainer.workers=1")
    assert overtile(command, tmp_path / "log", [swap]) == 3
    assert (tmp_path / "log").read_text().splitlines()[-1].startswith("case case00")
    assert "Traceback" not in (tmp_path / "log").read_text()


class BreakAfter:
    """Makes the sampler, and then truncates the images."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: object) -> object:
        from training.data.examination import make_sampler

        outcome = make_sampler(*words)  # type: ignore[arg-type]
        for path in (self.folder / "images").iterdir():
            path.write_bytes(path.read_bytes()[:200])
        return outcome


@pytest.mark.parametrize("seconds", [0.1, 12.0])
def test_minutes_end_a_run_in_time(seconds: float, slides: Path, tmp_path: Path) -> None:
    limited = (f"trainer.max_minutes={seconds / 60}", "trainer.max_steps=100000", "trainer.patience=100000")
    began = time.monotonic()
    assert overtile(words(slides, tmp_path, "unet", *limited, RARELY), tmp_path / "log") == 0, (tmp_path / "log").read_text()
    took = time.monotonic() - began
    manifest = bundle.load(tmp_path / "run/bundle").manifest
    assert 0 < manifest.training_steps < 100000
    assert manifest.training_seconds < max(seconds, took)
    if seconds > 1:
        assert manifest.training_seconds < seconds
        assert took < seconds + 30  # the process's own start and end, on a machine that others use


def test_a_resumed_clock_includes_its_set_up() -> None:
    clock = Clock(10, 1)
    clock.load_state_dict({"seconds": 45.0})
    assert 45 <= clock.seconds < 46
    assert 14 < clock.remaining_s <= 15
    assert clock.progress(2) == pytest.approx(0.75, abs=0.02)
    clock.reserved_s = 10  # a last validation, say
    assert 4 < clock.remaining_s <= 5
    assert clock.progress(2) == pytest.approx(0.9, abs=0.02)
    clock.reserved_s = 60
    assert clock.remaining_s < 0
    assert clock.progress(2) == 1
    assert Clock(10, None).remaining_s == float("inf")
    assert Clock(10, None).progress(5) == 0.5


def _stopped(pid: int) -> bool:
    return "State:\tT" in Path(f"/proc/{pid}/status").read_text()
