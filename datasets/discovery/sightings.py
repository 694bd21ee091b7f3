"""Description of a folder that follows no layout: the images in it, and names that look like pairs."""

import re
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

from datasets.discovery.files import is_image_path, visible_files
from datasets.discovery.pairs import is_image_folders
from datasets.discovery.table import TABLE
from imaging.open import stem_of

MOST_FILES = 20_000  # that are looked at
MOST_FOLDERS_SHOWN = 5
MOST_FOLDERS_COMPARED = 30
LEAST_SHARE = 0.5  # of the images, that pairs must be

_REFERENCE_HINT = re.compile("mask|label|seg|gt|truth|annot|ref|drawn|manual|roi", re.IGNORECASE)


def describe_folder(folder: Path) -> str:
    """Describe the images of a folder, and the command that makes a table of names that look like pairs."""
    tables = [path.name for path in folder.iterdir() if path.stem.casefold() == "cases"]
    if tables:
        return f"It holds {' and '.join(sorted(tables))}: save the table as CSV, with the name cases.csv."
    folders = [path for path in visible_files(folder) if path.is_dir()]
    inner = [
        path for path in folders if (path / TABLE).is_file() or (path / "dataset.json").is_file() or is_image_folders(path)
    ]
    if inner:
        return f"The data set seems to be in {' or '.join(map(str, inner[:MOST_FOLDERS_SHOWN]))}: give that folder."
    stems = _stems_by_folder(folder)
    if not stems:
        return "It holds no images; give the folder that holds them, or add them."
    counts = [f"{len(names)} in {name}/" if name != "." else f"{len(names)} beside each other" for name, names in stems.items()]
    more = f" and {len(counts) - MOST_FOLDERS_SHOWN} more folders" if len(counts) > MOST_FOLDERS_SHOWN else ""
    images = f"It holds images: {', '.join(counts[:MOST_FOLDERS_SHOWN])}{more}."
    return f"{images} {_pairs_in_one_folder(folder, stems) or _pairs_of_two_folders(folder, stems) or _NO_PAIRS.format(folder)}"


_NO_PAIRS = "No names look like pairs of image and reference: write a cases.csv, or make one with: overtile cases {} --help"


def _stems_by_folder(folder: Path) -> dict[str, list[str]]:
    """Return the stems of the images in each folder, by the folder's relative name."""
    stems: dict[str, list[str]] = defaultdict(list)
    pending, count = [folder], 0
    while pending and count < MOST_FILES:
        current = pending.pop(0)
        for path in visible_files(current):
            count += 1
            if path.is_dir() and path.suffix.lower() != ".zarr":
                pending.append(path)
            elif is_image_path(path):
                stems[current.relative_to(folder).as_posix()].append(stem_of(path))
    return dict(stems)


def _pairs_in_one_folder(folder: Path, stems: dict[str, list[str]]) -> str:
    """Describe the most frequent end by which names NAME and NAME_end differ; empty where few do."""
    ends: Counter[str] = Counter()
    for names in stems.values():
        all_names = set(names)
        for name in names:
            ends.update(name[match.start() :] for match in re.finditer("[_. -]", name) if name[: match.start()] in all_names)
    total = sum(map(len, stems.values()))
    if not ends or 2 * ends.most_common(1)[0][1] < LEAST_SHARE * total:
        return ""
    end, count = ends.most_common(1)[0]
    return (
        f"{count} pairs NAME, NAME{end}: if NAME{end} is the reference, write their table with: "
        f"overtile cases {folder} -o {folder / 'cases.csv'} --reference-suffix={end}"
    )


def _pairs_of_two_folders(folder: Path, stems: dict[str, list[str]]) -> str:
    """Describe the two folders that share most names; empty where they share few."""
    shared = {
        (first, second): len(set(stems[first]) & set(stems[second]))
        for first, second in combinations(list(stems)[:MOST_FOLDERS_COMPARED], 2)
    }
    if not shared:
        return ""
    (first, second), count = max(shared.items(), key=lambda item: item[1])
    if count < LEAST_SHARE * min(len(stems[first]), len(stems[second])):
        return ""
    if _REFERENCE_HINT.search(first) and not _REFERENCE_HINT.search(second):
        first, second = second, first
    return (
        f"{first}/ and {second}/ share {count} names: if {second}/ holds the references, write their table with: "
        f"overtile cases {folder} -o {folder / 'cases.csv'} --images {first} --references {second}"
    )
