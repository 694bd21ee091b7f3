"""Progress in the terminal: an image a line, first its bytes with their speed, then its job."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from service.client.inputs import Image
from service.schemas import JobAnswer


class Bars:
    """What `Works` tells, as bars.

    Args:
        progress: that draws them.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[tuple[Image, str], TaskID] = {}

    def bytes(self, image: Image, done: int, total: int) -> None:
        """So many bytes of the image are on the server."""
        task = self._task(image, "sent", total)
        self._progress.update(task, completed=done, detail=self._pace(task, done, total), visible=done < total)

    def job(self, image: Image, job: JobAnswer) -> None:
        """How it stands with its job."""
        place = f", place {job.position}" if job.position else ""
        left = f", {_duration(job.eta_s)} left" if job.eta_s is not None and job.state == "running" else ""
        task = self._task(image, "job", 1)
        over = job.state not in ("queued", "running")
        self._progress.update(task, completed=job.progress, detail=f"{job.state}{place}{left}", visible=not over)

    def _task(self, image: Image, part: str, total: float) -> TaskID:
        if (image, part) not in self._tasks:
            self._tasks[image, part] = self._progress.add_task(image.path.name, total=total, detail="")
        return self._tasks[image, part]

    def _pace(self, task: TaskID, done: int, total: int) -> str:
        speed = next(each.speed for each in self._progress.tasks if each.id == task)
        left = f", {decimal(int(speed))}/s, {_duration((total - done) / speed)} left" if speed else ""
        return f"{decimal(done)} of {decimal(total)} sent{left}"


@contextmanager
def shown(console: Console) -> Iterator[Bars]:
    """Bars while this lasts; none where there is no terminal."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield Bars(progress)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
