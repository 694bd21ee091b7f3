"""Cases of a data set, each an image with its reference, read from a table or a known layout and checked."""

import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from configs.sections import DataSection
from datasets.channels import stack_channels
from datasets.declared.class_values import ClassValues
from datasets.declared.declaration import Declaration
from datasets.discovery.layouts import read_layout
from datasets.discovery.rows import SPLITS, CaseRow, Columns, FolderRemark
from datasets.named_references import read_named_classes
from imaging.errors import DataError
from imaging.open import open_image
from imaging.source import ImageSource


@dataclass(frozen=True)
class Case:
    """Image with its reference.

    Args:
        name: unique name in the data set.
        images: one file, or several with one or more channels each and the same geometry.
        reference: file of labels or annotations; None where there is none.
        other_references: where classes overlap, the files of the classes after the first; any value above 0 is the class.
        group: patient that the case comes from; None where it is unknown.
        split: train, val or test; None where the data set gives none.
        spacing_um: distance between pixels as the user gave it, in S order or one number for all axes; None takes the files'.
        classes: class names in the order of their labels, by which annotations get their labels; empty where unknown.
        instances: the reference numbers objects, and any value above 0 is class 1.
        values: the reference holds a value for each pixel instead of labels.
        ignore_label: label of pixels that are neither trained on nor scored; None where there is none.
        label: class of the whole image; None where it has none.
        dimensions: of the config; None without one: a volume of one slice is then 2D.
        class_values: values of the classes in the reference; None where labels are the indices of the classes.
        channels: names of the image's channels, where the layout gives them case by case.
        declaration: what the data set says about itself; None where it says nothing.
        axes: letters of the axes of its TIFF files, such as ZYX; None takes the files'.
        metadata: cells of the table's other columns by their names, such as age or stain.
    """

    name: str
    images: tuple[Path, ...]
    reference: Path | None = None
    group: str | None = None
    split: str | None = None
    spacing_um: tuple[float, ...] | None = None
    classes: tuple[str, ...] = ()
    instances: bool = False
    other_references: tuple[Path, ...] = ()
    values: bool = False
    ignore_label: int | None = None
    label: str | None = None
    dimensions: int | None = None
    class_values: ClassValues | None = None
    channels: tuple[str, ...] = ()
    declaration: Declaration | None = None
    axes: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def reference_axes(self) -> str | None:
        """Letters of the axes of a reference, which has no channels."""
        return self.axes and self.axes.replace("C", "")

    @property
    def needed_dimensions(self) -> int:
        """Dimensions that files are read for, where they leave it open."""
        return self.dimensions or 2

    @property
    def patient(self) -> str:
        """Group of the case, or its name where it has none."""
        return self.group or self.name

    @classmethod
    def from_row(cls, row: CaseRow, folder: Path, data: DataSection | None, declaration: Declaration | None) -> "Case":
        """Convert a valid row of a layout; a config's data section decides what references mean, else the declaration."""
        references = tuple(folder / name for name in row.references)
        if data:
            names, values = tuple(section.name for section in data.classes), ClassValues.from_config(data)
            ignore_label = data.ignore_index
        elif declaration:
            names, values, ignore_label = declaration.names, declaration.class_values, declaration.ignore_index
        else:
            names, values, ignore_label = (), None, None
        return cls(
            name=row.case,
            images=tuple(folder / name for name in row.images),
            reference=references[0] if references else None,
            other_references=references[1:],
            group=row.group or None,
            split=row.split or None,
            spacing_um=_parse_spacing(row.spacing_um),
            classes=names,
            class_values=values,
            instances=data is not None and data.instances,
            values=data is not None and len(data.classes) == 1,
            ignore_label=ignore_label,
            label=row.label or None,
            dimensions=data.dimensions if data else None,
            channels=row.channels,
            declaration=declaration,
            axes=row.axes or None,
            metadata=row.metadata,
        )


def read_cases(folder: Path, data: DataSection | None = None, columns: Columns | None = None) -> tuple[Case, ...]:
    """Read the cases of a data set, in the order of its table or of the file names.

    Args:
        folder: data set in one of the layouts of `datasets/discovery/layouts.py`.
        data: data section of a config, which says what references mean; None takes class names from the layout if it has any.
        columns: columns of groups and labels; None takes those of the data section.

    Raises:
        DataError: the folder follows no layout or several, a column or file is missing or unknown, or a name occurs twice;
            the message lists every problem.
    """
    if columns is None:
        columns = Columns(data.group_column, data.label_column) if data else Columns()
    layout = read_layout(folder).with_columns(columns)
    problems = [] if layout.rows else ["no cases; add a line for each image, or its files"]
    problems += _table_problems(layout.rows)
    problems += [f"{row.where}: {problem}" for row in layout.rows for problem in _row_problems(row, folder)]
    if problems:
        raise DataError("cases_invalid", "\n".join(f"{layout.origin}: {problem}" for problem in problems))
    declaration = layout.declaration
    if not (declaration and declaration.classes) and not data:
        paths = tuple(dict.fromkeys(folder / name for row in layout.rows for name in row.references))
        named = read_named_classes(paths)
        declaration = replace(named, channels=declaration.channels) if named and declaration else named or declaration
    return tuple(Case.from_row(row, folder, data, declaration) for row in layout.rows)


def read_remarks(folder: Path) -> tuple[FolderRemark, ...]:
    """Return what is read in a data set's folder in a way that the user may not expect.

    Raises:
        DataError: as `read_layout`.
    """
    layout = read_layout(folder)
    paths = [folder / name for row in layout.rows for name in (*row.images, *row.references)]
    outside = [path for path in paths if not path.resolve().is_relative_to(folder.resolve())]
    if not outside:
        return layout.remarks
    text = (
        f"{len(outside)} of {len(paths)} files are behind links that leave the data set's folder, such as {outside[0].name} -> "
        f"{outside[0].resolve()}"
    )
    return (*layout.remarks, FolderRemark("links_leave_folder", text, "nothing is to be done while that folder is there"))


def open_case_image(case: Case) -> ImageSource:
    """Open the case's image; the channels of several files are stacked in order.

    Raises:
        DataError: a file can't be read, or `channel_geometry_mismatch`.
    """
    with ExitStack() as open_sources:
        open_file = partial(open_image, spacing_um=case.spacing_um, dimensions=case.needed_dimensions, axes=case.axes)
        image = stack_channels([open_sources.enter_context(open_file(path)) for path in case.images])
        open_sources.pop_all()
    return image


@contextmanager
def prefix_errors(case: Case) -> Iterator[None]:
    """Prefix the message of a DataError with the case's name."""
    try:
        yield
    except DataError as error:
        raise DataError(error.code, f"case {case.name}: {error.message}") from error


def _table_problems(rows: Sequence[CaseRow]) -> list[str]:
    """Find names that occur twice, and splits that are unknown or missing."""
    problems, names = [], set[str]()
    for row in rows:
        # names that differ only in case or in how accents are composed are the same file on some systems
        name = unicodedata.normalize("NFC", row.case).casefold()
        if not name or name in names:
            problems.append(f"{row.where}: case {row.case!r} is empty or comes twice; give every case a name of its own")
        names.add(name)
    is_split = any(row.split in ("train", "val") for row in rows)
    for row in rows:
        if row.split and row.split not in SPLITS:
            problems.append(f"{row.where}: split {row.split!r}; allowed are {', '.join(SPLITS)} or nothing")
        if is_split and not row.split:
            problems.append(f"{row.where}: no split, though other cases have one; give every case one, or only split test")
    return problems


def _row_problems(row: CaseRow, folder: Path) -> list[str]:
    cells = (row.case, *row.images, row.reference, row.group, row.label, row.axes, *row.metadata, *row.metadata.values())
    if not all(cell.isprintable() for cell in cells):
        return ["a cell holds characters that can't be printed; remove them"]
    spacing = _parse_spacing(row.spacing_um)
    problems = []
    if spacing and (len(spacing) > 3 or not all(math.isfinite(value) and value > 0 for value in spacing)):
        problems.append(f"spacing_um {row.spacing_um!r}; give one number above 0, or one an axis: 2;0.9;0.9")
    paths = [*(row.images or ("",)), *row.references]
    return problems + [problem for path in paths if (problem := _path_problem(path, folder))]


def _path_problem(name: str, folder: Path) -> str | None:
    path = Path(name)
    if not name:
        return "no image; name a file"
    if path.is_absolute() or ".." in path.parts:
        return f"{name}: leaves the data set's folder; give a path relative to it"
    if (folder / path).is_file() or (folder / path).is_dir():
        return None
    if (folder / path).is_symlink():
        return f"{name}: a link to a file that is missing; fetch it, with DataLad by: datalad get {name}"
    return f"{name}: no such file"


def _parse_spacing(text: str) -> tuple[float, ...] | None:
    """Parse numbers between semicolons, NaN for anything else; None for an empty text."""
    if not text:
        return None
    spacing = []
    for part in text.split(";"):
        try:
            spacing.append(float(part))
        except ValueError:
            spacing.append(math.nan)
    return tuple(spacing)
