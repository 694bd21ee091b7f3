"""An inspection -> lines on the terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evaluation.inspection.data_summary import Inspection, summary


def tell(inspection: Inspection, console: Console) -> None:
    """Prints what the data set is, every note and every problem with its remedy, the worst last."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for what, value in summary(inspection):
        table.add_row(Text(what, style="bold"), Text(value))
    console.print(table)
    examination = inspection.examination
    for note in examination.notes:
        console.print(f"note: {note}")
    for problem in examination.stops:
        console.print(f"problem: {problem}", style="bold red")
    count = len(examination.stops)
    if count:
        console.print(f"{count} problem{'' if count == 1 else 's'} would spoil a training")
    else:
        console.print("No problem was found")
