"""Write the table of a data set's cases: their files, and groups and splits that are derived from them."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from datasets.discovery.rows import REQUIRED, SPLITS, CaseRow
from imaging.errors import DataError

SHARE_TOLERANCE = 1e-6
NAMES_SHOWN = 6

_SEPARATOR = ";"


def parse_shares(text: str) -> dict[str, float]:
    """Parse the share of each split, such as train=0.7,val=0.2,test=0.1; percent and other totals are brought to a sum of 1.

    Raises:
        ValueError: a split is unknown or comes twice, or a share is not above 0.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        name = name.strip().casefold()
        if name not in SPLITS or name in shares:
            raise ValueError(f"{part.strip()!r}: give each of {', '.join(SPLITS)} once, such as train=0.7,val=0.2,test=0.1")
        shares[name] = float(value.strip().removesuffix("%") or 0)
    if not all(0 < share < float("inf") for share in shares.values()):
        raise ValueError(f"{text!r}: a share is not above 0; leave out the split, or give it one")
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def with_groups(rows: Sequence[CaseRow], pattern: "re.Pattern[str]") -> list[CaseRow]:
    """Return the rows with the part of the case's name, or else of its image's path, that the pattern matches as group.

    Args:
        rows: the cases.
        pattern: its first group in parentheses, or else all that it matches, is the case's group.

    Raises:
        DataError: `group_pattern`: it matches neither.
    """
    grouped, without = [], []
    for row in rows:
        match = pattern.search(row.case) or (pattern.search(row.images[0]) if row.images else None)
        group = (match[1] if pattern.groups else match[0]) if match else None
        if group:
            grouped.append(replace(row, group=group))
        else:
            without.append(row.case)
    if without:
        more = f" and {len(without) - NAMES_SHOWN} more" if len(without) > NAMES_SHOWN else ""
        raise DataError(
            "group_pattern",
            f"{pattern.pattern!r} matches neither name nor path of {len(without)} cases: {', '.join(without[:NAMES_SHOWN])}"
            f"{more}; correct the pattern, such as '^([^_]+)_' for what stands before the first _",
        )
    return grouped


def with_splits(rows: Sequence[CaseRow], shares: Mapping[str, float], seed: int) -> list[CaseRow]:
    """Return the rows with splits of these shares, drawn so that no group is divided and each split has at least one.

    The largest groups are placed first, ties at random, each into the split that lacks most cases.

    Raises:
        DataError: `groups_too_few`: there are fewer groups than splits.
    """
    members: dict[str, list[CaseRow]] = {}
    for row in rows:
        members.setdefault(row.group or row.case, []).append(row)
    if len(members) < len(shares):
        raise DataError(
            "groups_too_few",
            f"the {len(rows)} cases come from {len(members)} groups, and {len(shares)} splits need as many; add cases of other "
            "patients, or ask for fewer splits",
        )
    names = sorted(members)
    rank = dict(zip(names, np.random.default_rng(seed).permutation(len(names)).tolist(), strict=True))
    missing = {split: share * len(rows) for split, share in shares.items()}  # cases
    empty = set(shares)
    split_of: dict[str, str] = {}
    for place, group in enumerate(sorted(names, key=lambda name: (-len(members[name]), rank[name]))):
        candidates = empty if len(names) - place == len(empty) else set(shares)
        split = max(sorted(candidates), key=lambda name: missing[name])
        missing[split] -= len(members[group])
        empty.discard(split)
        split_of[group] = split
    return [replace(row, split=split_of[row.group or row.case]) for row in rows]


def write_cases(path: Path, rows: Sequence[CaseRow]) -> None:
    """Write a new table; columns that no case uses are left out.

    Raises:
        FileExistsError: the file exists.
    """
    cells = [
        {
            "case": row.case,
            "image": _SEPARATOR.join(row.images),
            "reference": _SEPARATOR.join(row.references),
            **{column: getattr(row, column) for column in ("group", "split", "spacing_um", "label", "axes")},
            **row.metadata,
        }
        for row in rows
    ]
    columns = list(dict.fromkeys(name for each in cells for name in each))
    used = [name for name in columns if name in REQUIRED or any(each.get(name) for each in cells)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, used, restval="", extrasaction="ignore")
        table.writeheader()
        table.writerows(cells)
