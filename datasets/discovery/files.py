"""Files of a folder that a data set is made of: images and annotations, and what lies beside them."""

import re
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

from datasets.discovery.rows import FolderRemark
from imaging.errors import DataError
from imaging.open import is_image_file, is_image_folder, stem_of

ANNOTATION_SUFFIXES = (".geojson", ".xml")
NAMES_SHOWN = 6

_OUTLINES = re.compile(rb'"(features|shapes|geometry)"\s*:')
_LONGEST_SEARCH_BYTES = 2**20
_HEADER_SUFFIX, _VOXELS_SUFFIX = ".hdr", ".img"  # of Analyze and of NIfTI in two files


def is_image_path(path: Path) -> bool:
    """Return whether a file or folder is an image. A broken link is, by its name."""
    if path.suffix.lower() in (".json", *ANNOTATION_SUFFIXES):
        return False
    return _is_image_folder(path, path.stat().st_mtime_ns) if path.is_dir() else is_image_file(path)


@lru_cache(maxsize=2**14)
def _is_image_folder(path: Path, _time_ns: int) -> bool:
    """Return whether a folder is an image, once for each state of it: the headers of all its slices are read."""
    return is_image_folder(path)


def is_annotation_file(path: Path) -> bool:
    """Return whether a file is named like an annotation, and a JSON has outlines: others describe an image, as in BIDS."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return path.suffix.lower() in ANNOTATION_SUFFIXES
    with path.open("rb") as file:
        return bool(_OUTLINES.search(file.read(_LONGEST_SEARCH_BYTES)))


def visible_files(folder: Path) -> list[Path]:
    """Return the sorted files and folders whose names do not begin with a dot, or with ~ as Office's locks do."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "~")))


def data_files(folder: Path) -> list[Path]:
    """Return the images and annotations of a folder, sorted."""
    return [path for path in visible_files(folder) if is_image_path(path) or is_annotation_file(path)]


def files_by_stem(folder: Path, name: str, ending: str = "") -> dict[str, str]:
    """Return the relative paths of a subfolder's images and annotations by stem, sorted by it.

    Args:
        folder: the data set.
        name: name of the folder in it.
        ending: end of the names of files that are read, as dataset.json declares it.

    Raises:
        DataError: `cases_invalid`: two files have one stem, or none has the declared ending.
    """
    paths: dict[str, str] = {}
    files = data_files(folder / name) if (folder / name).is_dir() else []
    if files and not any(path.name.endswith(ending) for path in files):
        raise DataError(
            "cases_invalid",
            f"{folder / 'dataset.json'}: file_ending is {ending!r}, but no file of {name}/ ends so, such as {files[0].name}: "
            "correct one of them",
        )
    for path in [path for path in files if path.name.endswith(ending)]:
        stem = stem_of(path)
        if stem in paths and not (folder / paths[stem]).is_dir():
            raise DataError(
                "cases_invalid", f"{folder}: {paths[stem]} and {path.name} have one name; rename one, or write a cases.csv"
            )
        paths[stem] = f"{name}/{path.name}"
    return dict(sorted(paths.items()))


def skipped_files(folder: Path, *names: str, used: Collection[str] = ()) -> tuple[FolderRemark, ...]:
    """Return one remark on all files in subfolders that are neither images nor annotations; none where there are none.

    Args:
        folder: folder of the data set.
        names: subfolders, or "." for the folder itself.
        used: relative paths of other files that are used.
    """
    files = [path for name in names if (folder / name).is_dir() for path in visible_files(folder / name)]
    parents = {parent.as_posix() for name in names for parent in (Path(name), *Path(name).parents)}
    strangers = [path.relative_to(folder).as_posix() for path in files if _is_stranger(path)]
    skipped = [name for name in strangers if name not in parents and name not in used]
    if not skipped:
        return ()
    more = f" and {len(skipped) - NAMES_SHOWN} more" if len(skipped) > NAMES_SHOWN else ""
    verb = "file is" if len(skipped) == 1 else "files are"
    text = f"{len(skipped)} {verb} no image and no annotation, and skipped: {', '.join(skipped[:NAMES_SHOWN])}{more}"
    return (FolderRemark("files_skipped", text, "nothing is to be done if that is right"),)


def _is_stranger(path: Path) -> bool:
    """Return whether a file or folder is neither an image, nor an annotation, nor a part of an image beside it."""
    if path.is_dir() and path.with_suffix(".mrxs").is_file():
        return False
    if path.suffix.lower() == _VOXELS_SUFFIX and path.with_suffix(_HEADER_SUFFIX).is_file():
        return False
    return not is_image_path(path) and not is_annotation_file(path)
