"""Parts that all commands share: expected errors become messages and exit codes, and progress is shown as bars."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from configs.errors import STORAGE, OvertileError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, TaskID

_ADVICE = {  # by the number of the system's error
    errno.EACCES: "; get the right to use it, or give another path",
    errno.EROFS: "; give a path on a disk that can be written",
    errno.ENOSPC: "; free space there, or give a path on another disk",
    errno.EDQUOT: "; free space there, or give a path on another disk",
}


@contextmanager
def exit_codes(text_of: Callable[[Exception], str] = str) -> Iterator["Console"]:
    """Open a console on standard error; an expected error is printed there, and the command exits with its code.

    Advice is added to errors of the system. All other errors are defects of Overtile and keep their traceback.

    Args:
        text_of: returns the message that is printed for an error.
    """
    from rich.console import Console

    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
    try:
        yield console
    except (OvertileError, OSError) as error:
        advice = _ADVICE.get(error.errno or 0, "") if isinstance(error, OSError) else ""
        console.print(f"{text_of(error)}{advice}", style="bold red")
        raise typer.Exit(error.exit_code if isinstance(error, OvertileError) else STORAGE) from error


@contextmanager
def progress_bars(console: "Console") -> Iterator[Callable[[object, int, int], None]]:
    """Show progress bars, and yield a function (label, done, total) that updates the bar of a label."""
    from rich.progress import TimeRemainingColumn

    tasks: dict[object, TaskID] = {}
    with progress_display(console, TimeRemainingColumn()) as progress:

        def on_progress(label: object, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = progress.add_task(str(label))
            progress.update(tasks[label], completed=done, total=total)

        yield on_progress


def progress_display(console: "Console", last_column: "ProgressColumn") -> "Progress":
    """Return a display of labelled bars with the elapsed time, which shows nothing where the console is no terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(), last_column)
    return Progress(*columns, console=console, disable=not console.is_terminal)


def parse_names(text: str) -> tuple[str, ...]:
    """Return the names in a list with commas between."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
