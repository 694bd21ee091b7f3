"""Make the table of a data set's cases, as `overtile cases` does: any layout, with groups and splits on request."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from configs.schema import ConfigError
from datasets.discovery.layouts import read_layout
from datasets.discovery.pairs import read_paired_files, read_two_folders
from datasets.discovery.rows import SPLITS, Layout
from datasets.discovery.table import TABLE
from datasets.discovery.table_writing import parse_shares, with_groups, with_splits, write_cases
from imaging.errors import DataError


@dataclass(frozen=True)
class CaseTableRequest:
    """Options of `overtile cases`; those that are empty are not given.

    Args:
        data: folder of the data set.
        split: share of each split, such as train=0.7,val=0.2,test=0.1.
        group_pattern: regular expression that finds the group in the case's name or the image's path.
        seed: seed of the draw of splits.
        images: folder of the images, relative to `data`.
        references: folder of the references, relative to `data`.
        reference_suffix: what follows NAME in the names of references that lie beside images.
    """

    data: Path
    split: str = ""
    group_pattern: str = ""
    seed: int = 0
    images: str = ""
    references: str = ""
    reference_suffix: str = ""


def make_case_table(request: CaseTableRequest, out: Path) -> Iterator[str]:
    """Write the table and yield the lines that tell what is in it and what comes next.

    Raises:
        ConfigError: an option is wrong, or the table exists.
        DataError: as `read_layout`; `groups_too_few`, `group_pattern`; `reference_missing`: there is nothing to split.
    """
    layout = _read(request)
    rows = list(layout.rows)
    yield from (f"note: {remark}" for remark in layout.remarks)
    if request.group_pattern:
        try:
            rows = with_groups(rows, re.compile(request.group_pattern))
        except re.error as error:
            raise ConfigError(f"--group-pattern: {request.group_pattern!r} is no regular expression ({error})") from error
    if request.split:
        try:
            shares = parse_shares(request.split)
        except ValueError as error:
            raise ConfigError(f"--split: {error}") from error
        usable = [row for row in rows if row.references]
        if len(usable) < len(rows):
            yield f"{len(rows) - len(usable)} of {len(rows)} cases have no reference, and are left out of the table"
        if not usable:
            raise DataError("reference_missing", "no case has a reference, so there is nothing to split; add references")
        rows = with_splits(usable, shares, request.seed)
    try:
        write_cases(out, rows)
    except FileExistsError as error:
        raise ConfigError(f"{out}: exists, and may have been edited; choose another name or remove it") from error
    counts = Counter(row.split or "no split" for row in rows)
    splits = ", ".join(f"{counts[name]} {name}" for name in (*SPLITS, "no split") if counts[name])
    groups = len({row.group for row in rows if row.group})
    yield f"{out}: {len(rows)} cases ({splits}), {groups or 'no'} groups"
    if out.resolve() != (request.data / TABLE).resolve():
        yield f"It is used from {request.data / TABLE}, since its paths are relative to that folder; put it there"
    if layout.declaration and layout.declaration.classes:
        names = ",".join(layout.declaration.names)
        yield f"The table replaces {layout.origin}: give its classes to the plan, with --classes {names}"
    yield f"Next: overtile inspect {request.data}"


def _read(request: CaseTableRequest) -> Layout:
    """Read the layout that the options name, or else the one that the folder follows."""
    if bool(request.images) != bool(request.references):
        raise ConfigError("--images and --references: give both, or neither")
    if request.images and request.reference_suffix:
        raise ConfigError("--reference-suffix: leave it out where --images and --references name two folders")
    if not request.data.is_dir():
        raise DataError("cases_missing", f"{request.data}: no such folder; give the path of a data set")
    for name in (request.images, request.references):
        if name and not (request.data / name).is_dir():
            raise ConfigError(f"{request.data / name}: no such folder; name folders in {request.data}")
    if request.images:
        return read_two_folders(request.data, request.images, request.references)
    if request.reference_suffix:
        return read_paired_files(request.data, request.reference_suffix)
    return read_layout(request.data)
