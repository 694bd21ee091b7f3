"""Progress of a batch in the terminal: one line per image, first for its upload with the speed, then for its job."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import Progress, TaskID, TextColumn

from configs.command_line import progress_display
from service.client.inputs import InputImage
from service.schemas import JobAnswer


class ProgressBars:
    """Observer of a batch that shows its progress as bars.

    Args:
        progress: display with a text column for the field `detail`.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[tuple[InputImage, str], TaskID] = {}

    def on_bytes(self, image: InputImage, done: int, total: int) -> None:
        """Show how many bytes of the image are on the server, and how fast they arrive."""
        task = self._task(image, "upload", total)
        speed = next(each.speed for each in self._progress.tasks if each.id == task)
        left = f", {decimal(int(speed))}/s, {_duration((total - done) / speed)} left" if speed else ""
        detail = f"{decimal(done)} of {decimal(total)} sent{left}"
        self._progress.update(task, completed=done, detail=detail, visible=done < total)

    def on_job(self, image: InputImage, job: JobAnswer) -> None:
        """Show the state of the image's job, its place in the queue and the time that it still takes."""
        place = f", place {job.position}" if job.position else ""
        left = f", {_duration(job.eta_s)} left" if job.eta_s is not None and job.state == "running" else ""
        is_open = job.state in ("queued", "running")
        task = self._task(image, "job", 1)
        self._progress.update(task, completed=job.progress, detail=f"{job.state}{place}{left}", visible=is_open)

    def _task(self, image: InputImage, part: str, total: float) -> TaskID:
        if (image, part) not in self._tasks:
            self._tasks[image, part] = self._progress.add_task(image.path.name, total=total, detail="")
        return self._tasks[image, part]


@contextmanager
def batch_progress(console: Console) -> Iterator[ProgressBars]:
    """Show bars until the context ends; they stay invisible where the console is no terminal."""
    with progress_display(console, TextColumn("{task.fields[detail]}", markup=False)) as progress:
        yield ProgressBars(progress)


def _duration(seconds: float) -> str:
    """Return a duration such as 1:05, or 2:03:04 from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
