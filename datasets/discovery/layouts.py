"""Layouts of data sets: which files in a folder form a case, by its table or by a known layout; no image is opened.

cases.csv                                      a table written by the user, used before all other layouts
images/ and references/, masks/, labels/ ..    equal names up to the suffix, see `pairs.py`
train/, val/ and test/                         with images and references each, see `split_folders.py`
a.png, a_mask.png                              references beside images, see `pairs.py`
imagesTr/, labelsTr/, dataset.json             nnU-Net (NAME_0000, NAME_0001 are channels) or Medical Decathlon
a.svs, a.geojson, a.xml or a.json              annotations of QuPath, Aperio or LabelMe, or COCO's, see `annotated.py`
sub-01/, derivatives/*/sub-01/*_dseg.nii.gz    BIDS
"""

from collections.abc import Callable
from pathlib import Path

from datasets.declared import bids
from datasets.declared.dataset_json import declaration_of, read_description
from datasets.discovery.annotated import is_annotated_slides, is_coco_dataset, read_annotated_slides, read_coco
from datasets.discovery.files import files_by_stem, skipped_files
from datasets.discovery.pairs import CHANNEL, is_image_folders, is_paired_files, read_image_folders, read_paired_files
from datasets.discovery.rows import CaseRow, Layout
from datasets.discovery.sightings import describe_folder
from datasets.discovery.split_folders import is_split_folders, read_split_folders
from datasets.discovery.table import TABLE, read_table
from datasets.discovery.tiff_spacing import read_tiff_spacing
from imaging.errors import DataError
from imaging.open import stem_of

_TABLE_COLUMNS = "cases.csv: case,image,reference[,group,split,spacing_um,label,axes]"


def read_layout(folder: Path) -> Layout:
    """Read the rows of the layout that the folder follows.

    Raises:
        DataError: `cases_missing`: none; `layout_ambiguous`: several; `cases_invalid`: a table or dataset.json is broken.
    """
    if (folder / TABLE).exists():
        return read_table(folder / TABLE)
    if not folder.is_dir():
        raise DataError("cases_missing", f"{folder}: no such folder; give the path of a data set")
    matches = [(name, read) for name, is_layout, read in LAYOUTS if is_layout(folder)]
    if len(matches) == 1:
        return matches[0][1](folder)
    names = [name for name, _ in matches] or [_TABLE_COLUMNS, *(name for name, *_ in LAYOUTS)]
    lines = "".join(f"\n    {name}" for name in names)
    if matches:
        raise DataError("layout_ambiguous", f"{folder}: several layouts match; write a cases.csv to choose one:{lines}")
    raise DataError("cases_missing", f"{folder}: no data set is recognised. {describe_folder(folder)}\nLooked for:{lines}")


def is_nnunet(folder: Path) -> bool:
    """Return whether all files of imagesTr/ have a channel's number in their names, as nnU-Net writes it."""
    if not _has_dataset_json(folder):
        return False
    ending = str(read_description(folder / "dataset.json").get("file_ending", ""))
    return all(map(CHANNEL.fullmatch, files_by_stem(folder, "imagesTr", ending)))


def read_nnunet(folder: Path) -> Layout:
    """Read a data set of nnU-Net: the cases of imagesTr/, and those of imagesTs/ as split test.

    Raises:
        DataError: `cases_invalid`: dataset.json is broken, or a name has no channel.
    """
    description, path = read_description(folder / "dataset.json"), folder / "dataset.json"
    ending = str(description.get("file_ending", ""))
    rows = []
    for part, split in (("Tr", ""), ("Ts", "test")):
        references = files_by_stem(folder, f"labels{part}", ending)
        for case, channels in _channels_by_case(folder, f"images{part}", ending).items():
            spacing_um, axes = read_tiff_spacing(folder / f"images{part}" / f"{case}.json")
            where, reference = f"images{part}/{case}", references.get(case, "")
            rows.append(CaseRow(where, case, channels, reference, split=split, spacing_um=spacing_um, axes=axes))
    names = ("imagesTr", "labelsTr", "imagesTs", "labelsTs")
    used = {f"{name}/{row.case}.json" for row in rows if row.spacing_um for name in names}
    remarks = skipped_files(folder, *names, used=used)
    return Layout(str(path), tuple(rows), declaration_of(description, path), remarks)


def _channels_by_case(folder: Path, name: str, ending: str) -> dict[str, tuple[str, ...]]:
    """Group the files NAME_0000, NAME_0001 .. of a folder by NAME, in the order of the channels."""
    cases: dict[str, list[str]] = {}
    for stem, path in files_by_stem(folder, name, ending).items():
        match = CHANNEL.fullmatch(stem)
        if match is None:
            raise DataError("cases_invalid", f"{folder}: {path}: no channel in the name; nnU-Net's are NAME_0000, NAME_0001 ..")
        cases.setdefault(match["case"], []).append(path)
    return {case: tuple(sorted(paths)) for case, paths in cases.items()}


def is_decathlon(folder: Path) -> bool:
    """Return whether dataset.json lists the training cases, as in the Medical Segmentation Decathlon."""
    return _has_dataset_json(folder) and not is_nnunet(folder) and "training" in read_description(folder / "dataset.json")


def read_decathlon(folder: Path) -> Layout:
    """Read a data set of the Medical Segmentation Decathlon.

    Raises:
        DataError: `channels_in_one_file`: several modalities in one 4D file; `cases_invalid`: dataset.json is broken.
    """
    origin = folder / "dataset.json"
    description = read_description(origin)
    if len(description.get("modality", ())) > 1:
        raise DataError(
            "channels_in_one_file",
            f"{origin} names {len(description['modality'])} modalities in each 4D file, which aren't read; "
            "save one 3D file a modality and name them in cases.csv, with ; between them",
        )
    try:
        rows = [_decathlon_row(pair["image"], pair.get("label", ""), "") for pair in description["training"]]
        rows += [_decathlon_row(image, "", "test") for image in description.get("test", ())]
    except (TypeError, KeyError, AttributeError) as error:
        raise DataError(
            "cases_invalid", f"{origin}: training isn't a list of image and label, or test one of images; write a cases.csv"
        ) from error
    return Layout(str(origin), tuple(rows), declaration_of(description, origin))


def _decathlon_row(image: str, label: str, split: str) -> CaseRow:
    image, label = image.removeprefix("./"), label.removeprefix("./")
    return CaseRow(image, stem_of(Path(image)), (image,), label, split=split)


def is_bids(folder: Path) -> bool:
    """Return whether there are segmentations among BIDS derivatives."""
    return any(folder.glob("derivatives/*/sub-*/**/*_dseg.nii.gz"))


def read_bids(folder: Path) -> Layout:
    """Read a BIDS data set: each segmentation among the derivatives, with all images of its session as channels."""
    rows = []
    references = sorted(folder.glob("derivatives/*/sub-*/**/*_dseg.nii.gz"))
    for reference in references:
        parents = reference.relative_to(folder).parts[2:-1]  # sub-01, ses-01, anat
        prefix = "_".join(part for part in parents if part.startswith(("sub-", "ses-")))
        images = sorted(folder.joinpath(*parents).glob(f"{prefix}_*.nii.gz"))
        paths = tuple(path.relative_to(folder).as_posix() for path in images)
        channels = tuple(bids.channel_name(path, prefix) for path in images)
        path = reference.relative_to(folder).as_posix()
        rows.append(CaseRow(prefix, prefix, paths, path, group=parents[0], channels=channels))
    return Layout(str(folder), tuple(rows), bids.declaration_of(folder, references, rows[0].channels))


def _has_dataset_json(folder: Path) -> bool:
    return (folder / "imagesTr").is_dir() and (folder / "dataset.json").is_file()


LAYOUTS: tuple[tuple[str, Callable[[Path], bool], Callable[[Path], Layout]], ...] = (  # description, check, reader
    (
        "images/ and one of references/, masks/, labels/, annotations/, gt/, seg/, with equal names, or NAME_mask for NAME",
        is_image_folders,
        read_image_folders,
    ),
    (
        "train/ and val/ or test/, with images and references each, or images/train/ .. and masks/train/ ..",
        is_split_folders,
        read_split_folders,
    ),
    ("NAME.png with NAME_mask.png, NAME_label.png or NAME-seg.nii.gz beside it", is_paired_files, read_paired_files),
    ("nnU-Net: imagesTr/NAME_0000.nii.gz .., labelsTr/NAME.nii.gz, dataset.json", is_nnunet, read_nnunet),
    ("Medical Decathlon: imagesTr/, labelsTr/, dataset.json with a list of training", is_decathlon, read_decathlon),
    (
        "NAME.svs with NAME.geojson (QuPath), NAME.xml (Aperio) or NAME.json (LabelMe) beside it",
        is_annotated_slides,
        read_annotated_slides,
    ),
    ("COCO: a JSON with images, annotations and categories, and images/", is_coco_dataset, read_coco),
    ("BIDS: sub-01/.. and derivatives/NAME/sub-01/.._dseg.nii.gz", is_bids, read_bids),
)
