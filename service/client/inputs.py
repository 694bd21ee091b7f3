"""Paths on the command line -> images to send: the files of each, and what its masks are called."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.client.errors import ClientError

_DOUBLE_SUFFIXES = (".nii", ".ome")


@dataclass(frozen=True)
class Image:
    """One image, in a file or in several.

    Args:
        path: as the user named it.
        files: to be sent, in order.
    """

    path: Path
    files: tuple[Path, ...]

    @property
    def stem(self) -> str:
        """What its masks are called."""
        return self.path.name if self.path.is_dir() else stem_of(self.path)


def stem_of(path: Path) -> str:
    """The name up to the suffix; .nii.gz, .ome.tif and the like are one suffix."""
    return next((path.stem.removesuffix(each) for each in _DOUBLE_SUFFIXES if path.stem.endswith(each)), path.stem)


def find_images(inputs: Sequence[Path], *, together: bool) -> list[Image]:
    """An image a file, also of those that lie directly in folders, hidden ones left out.

    Args:
        inputs: files and folders.
        together: the files of a folder are one image, and so are all that are named themselves.

    Raises:
        ClientError: nothing there, or two images whose masks would have one name.
    """
    for path in inputs:
        if not path.exists():
            raise ClientError("no_such_file", f"{path} isn't there; give files or folders of them")
    folders = [(path, _files_in(path)) for path in inputs if path.is_dir()]
    named = tuple(path for path in inputs if not path.is_dir())
    if together:
        images = [Image(path, files) for path, files in folders if files] + ([Image(named[0], named)] if named else [])
    else:
        images = [Image(file, (file,)) for _, files in folders for file in files] + [Image(path, (path,)) for path in named]
    if not images:
        raise ClientError("no_inputs", "the folders given are empty; give images, slides, volumes or folders of them")
    _check_stems(images)
    return images


def _files_in(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")))


def _check_stems(images: Sequence[Image]) -> None:
    known: dict[str, Image] = {}
    for image in images:
        other = known.setdefault(image.stem, image)
        if other is not image:
            message = f"{other.path} and {image.path} would have masks of one name; rename one or send them apart"
            raise ClientError("same_stem", message)
