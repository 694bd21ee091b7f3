"""A folder -> rows, one a case, by the table in it or by the first layout that it is known to follow; nothing is opened.

cases.csv                                      the user's word, before everything else
images/ and references/, masks/ or labels/     equal names up to the suffix
imagesTr/, labelsTr/, dataset.json             nnU-Net (NAME_0000, NAME_0001 are channels) or Medical Decathlon
a.svs, a.geojson or a.xml                      slides with QuPath's or Aperio's annotations beside them
sub-01/, derivatives/*/sub-01/*_dseg.nii.gz    BIDS
"""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imaging.errors import DataError
from imaging.open import stem_of

REQUIRED = ("case", "image")
OPTIONAL = ("reference", "group", "split", "spacing_um", "label")
SPLITS = ("train", "val", "test")
REFERENCE_FOLDERS = ("references", "masks", "labels")
MAX_TABLE_BYTES = 2**26

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
_ANNOTATIONS = (".geojson", ".xml")
_TABLE = "cases.csv: case,image,reference[,group,split,spacing_um,label]"


@dataclass(frozen=True)
class CaseRow:
    """One case as text; paths are relative to the data set, `where` is what a message calls it."""

    where: str
    case: str
    images: tuple[str, ...]
    reference: str = ""
    group: str = ""
    split: str = ""
    spacing_um: str = ""
    label: str = ""  # of the whole image
    other_references: tuple[str, ...] = ()  # where classes overlap, those of the classes after the first

    @property
    def references(self) -> tuple[str, ...]:
        """All files of the reference."""
        return (self.reference, *self.other_references) if self.reference or self.other_references else ()


@dataclass(frozen=True)
class Layout:
    """What a folder holds; `classes` are names in the order of their labels, where the layout says."""

    origin: str
    rows: tuple[CaseRow, ...]
    classes: tuple[str, ...] = ()


def read_layout(folder: Path) -> Layout:
    """The rows of the one layout that the folder follows.

    Raises:
        DataError: `cases_missing`: none; `layout_ambiguous`: several; `cases_invalid`: what describes it is broken.
    """
    if (folder / "cases.csv").exists():
        return _table(folder)
    if not folder.is_dir():
        raise DataError("cases_missing", f"{folder}: no such folder; give the path of a data set")
    matching = [(name, read) for name, matches, read in _LAYOUTS if matches(folder)]
    if len(matching) == 1:
        return matching[0][1](folder)
    names = [name for name, *_ in matching] or [_TABLE, *(name for name, *_ in _LAYOUTS)]
    listed = "".join(f"\n    {name}" for name in names)
    if matching:
        raise DataError("layout_ambiguous", f"{folder}: several layouts match; say in a cases.csv which is meant:{listed}")
    raise DataError("cases_missing", f"{folder}: no data set is recognised; looked for:{listed}")


def _table(folder: Path) -> Layout:
    table = folder / "cases.csv"
    try:
        if table.stat().st_size > MAX_TABLE_BYTES:
            raise DataError("cases_invalid", f"{table}: more than {MAX_TABLE_BYTES // 2**20} MiB; split the data set")
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), tuple(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            "cases_missing", f"{table} can't be read; save it as CSV in UTF-8: case,image,reference[,group,split]"
        ) from error
    problems = _column_problems(columns)
    if not problems:
        problems = [
            f"line {line}: not as many cells as there are columns"
            for line, row in enumerate(rows, start=2)
            if None in row or None in row.values()
        ]
    if problems:
        raise DataError("cases_invalid", "\n".join(f"{table}: {problem}" for problem in problems))
    return Layout(str(table), tuple(_table_row(line, row) for line, row in enumerate(rows, start=2)))


def _table_row(line: int, row: dict[str, str]) -> CaseRow:
    images = tuple(name.strip() for name in row["image"].split(";")) if row["image"] else ()
    reference, *others = (name.strip() for name in row.get("reference", "").split(";"))
    cells = {column: row.get(column, "") for column in OPTIONAL} | {"reference": reference}
    cells["label"] = cells["label"].strip()
    return CaseRow(f"line {line}", row["case"], images, **cells, other_references=tuple(others))


def _column_problems(columns: tuple[str, ...]) -> list[str]:
    allowed = ", ".join((*REQUIRED, *OPTIONAL))
    missing = [f"column {name!r} is missing; columns are {allowed}" for name in REQUIRED if name not in columns]
    unknown = [f"column {name!r} is unknown; columns are {allowed}" for name in columns if name not in (*REQUIRED, *OPTIONAL)]
    twice = [f"column {name!r} comes twice" for name in sorted({name for name in columns if columns.count(name) > 1})]
    return missing + unknown + twice


def _own_folders(folder: Path) -> Layout:
    found = [name for name in REFERENCE_FOLDERS if (folder / name).is_dir()]
    if len(found) > 1:
        raise DataError("layout_ambiguous", f"{folder} has {' and '.join(found)}; keep one, or write a cases.csv")
    references = _by_stem(folder, found[0])
    images = _by_stem(folder, "images")
    lonely = sorted(set(references) - set(images))
    if lonely:
        raise DataError(
            "cases_invalid",
            "\n".join(
                f"{folder}: {references[stem]}: no image of that name in images/; rename or remove it" for stem in lonely
            ),
        )
    return Layout(str(folder), tuple(CaseRow(images[stem], stem, (images[stem],), references.get(stem, "")) for stem in images))


def _nnunet(folder: Path) -> Layout:
    described = _described(folder)
    rows = [
        CaseRow(f"images{part}/{case}", case, channels, references.get(case, ""), split=split)
        for part, split in (("Tr", ""), ("Ts", "test"))
        for references in [_by_stem(folder, f"labels{part}")]
        for case, channels in _channels(folder, f"images{part}").items()
    ]
    return Layout(str(folder / "dataset.json"), tuple(rows), _classes(described))


def _channels(folder: Path, name: str) -> dict[str, tuple[str, ...]]:
    """Files NAME_0000, NAME_0001 .. by NAME, in the channels' order."""
    cases: dict[str, list[str]] = {}
    for stem, path in _by_stem(folder, name).items():
        match = _CHANNEL.fullmatch(stem)
        if match is None:
            raise DataError("cases_invalid", f"{folder}: {path}: no channel in the name; nnU-Net's are NAME_0000, NAME_0001 ..")
        cases.setdefault(match["case"], []).append(path)
    return {case: tuple(sorted(paths)) for case, paths in cases.items()}


def _decathlon(folder: Path) -> Layout:
    described = _described(folder)
    origin = folder / "dataset.json"
    if len(described.get("modality", ())) > 1:
        raise DataError(
            "channels_in_one_file",
            f"{origin} names {len(described['modality'])} modalities in each 4D file, which aren't read; "
            "save one 3D file a modality and name them in cases.csv, with ; between them",
        )
    try:
        rows = [_decathlon_row(pair["image"], pair.get("label", ""), "") for pair in described["training"]]
        rows += [_decathlon_row(image, "", "test") for image in described.get("test", ())]
    except (TypeError, KeyError, AttributeError) as error:
        raise DataError(
            "cases_invalid", f"{origin}: training isn't a list of image and label, or test one of images; write a cases.csv"
        ) from error
    return Layout(str(origin), tuple(rows), _classes(described))


def _decathlon_row(image: str, label: str, split: str) -> CaseRow:
    image, label = image.removeprefix("./"), label.removeprefix("./")
    return CaseRow(image, stem_of(Path(image)), (image,), label, split=split)


def _annotated_slides(folder: Path) -> Layout:
    annotations = {stem_of(path): path.name for path in _files(folder) if path.suffix.lower() in _ANNOTATIONS}
    slides = {stem_of(path): path.name for path in _files(folder) if path.suffix.lower() not in _ANNOTATIONS}
    rows = [CaseRow(slides[stem], stem, (slides[stem],), name) for stem, name in annotations.items() if stem in slides]
    return Layout(str(folder), tuple(rows))


def _bids(folder: Path) -> Layout:
    rows = []
    for reference in sorted(folder.glob("derivatives/*/sub-*/**/*_dseg.nii.gz")):
        place = reference.relative_to(folder).parts[2:-1]  # sub-01, ses-01, anat
        prefix = "_".join(part for part in place if part.startswith(("sub-", "ses-")))
        images = sorted(folder.joinpath(*place).glob(f"{prefix}_*.nii.gz"))
        paths = tuple(path.relative_to(folder).as_posix() for path in images)
        rows.append(CaseRow(prefix, prefix, paths, reference.relative_to(folder).as_posix(), group=place[0]))
    return Layout(str(folder), tuple(rows))


def _described(folder: Path) -> dict[str, Any]:
    try:
        described = json.loads((folder / "dataset.json").read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError("cases_invalid", f"{folder / 'dataset.json'} can't be read as JSON; export it again") from error
    if not isinstance(described, dict):
        raise DataError("cases_invalid", f"{folder / 'dataset.json'} isn't an object of keys and values; export it again")
    return described


def _classes(described: dict[str, Any]) -> tuple[str, ...]:
    """Names by label, of {"0": "background"} (Decathlon) or {"background": 0} (nnU-Net, where a region has several labels)."""
    labels = described.get("labels")
    if not isinstance(labels, dict):
        return ()
    names: dict[int, str] = {}
    for key, value in labels.items():
        if str(key).isdigit():
            names[int(key)] = str(value)
        elif key != "ignore":
            names.update({int(label): str(key) for label in (value if isinstance(value, list) else [value])})
    return tuple(names.get(label, f"label {label}") for label in range(max(names, default=-1) + 1))


def _by_stem(folder: Path, name: str) -> dict[str, str]:
    """Relative paths of a folder's files, and of folders that are images, by stem and in its order.

    Raises:
        DataError: `cases_invalid`: two files of one stem.
    """
    paths: dict[str, str] = {}
    for path in _files(folder / name) if (folder / name).is_dir() else ():
        stem = stem_of(path)
        if stem in paths and path.is_dir():
            continue  # a slide's own folder beside it, as MIRAX has
        if stem in paths and not (folder / paths[stem]).is_dir():
            raise DataError(
                "cases_invalid", f"{folder}: {paths[stem]} and {path.name} have one name; rename one, or write a cases.csv"
            )
        paths[stem] = f"{name}/{path.name}"
    return dict(sorted(paths.items()))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _has_folders(folder: Path) -> bool:
    return (folder / "images").is_dir() and any((folder / name).is_dir() for name in REFERENCE_FOLDERS)


def _has_described_images(folder: Path) -> bool:
    return (folder / "imagesTr").is_dir() and (folder / "dataset.json").is_file()


def _has_channels(folder: Path) -> bool:
    return _has_described_images(folder) and all(map(_CHANNEL.fullmatch, _by_stem(folder, "imagesTr")))


def _has_training_list(folder: Path) -> bool:
    return _has_described_images(folder) and not _has_channels(folder) and "training" in _described(folder)


def _has_annotated_slides(folder: Path) -> bool:
    stems = {stem_of(path) for path in _files(folder) if path.suffix.lower() in _ANNOTATIONS}
    return any(stem_of(path) in stems for path in _files(folder) if path.suffix.lower() not in _ANNOTATIONS)


def _has_derivatives(folder: Path) -> bool:
    return any(folder.glob("derivatives/*/sub-*/**/*_dseg.nii.gz"))


_LAYOUTS: tuple[tuple[str, Callable[[Path], bool], Callable[[Path], Layout]], ...] = (  # one line a layout
    ("images/ and one of references/, masks/, labels/, with equal names", _has_folders, _own_folders),
    ("nnU-Net: imagesTr/NAME_0000.nii.gz .., labelsTr/NAME.nii.gz, dataset.json", _has_channels, _nnunet),
    ("Medical Decathlon: imagesTr/, labelsTr/, dataset.json with a list of training", _has_training_list, _decathlon),
    ("slides with NAME.geojson (QuPath) or NAME.xml (Aperio) beside NAME.svs", _has_annotated_slides, _annotated_slides),
    ("BIDS: sub-01/.. and derivatives/NAME/sub-01/.._dseg.nii.gz", _has_derivatives, _bids),
)
