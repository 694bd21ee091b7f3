"""Images to send: the files of each, found from the paths on the command line, and the name of its masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.client.errors import ClientError

_DOUBLE_SUFFIXES = (".nii", ".ome")


@dataclass(frozen=True)
class InputImage:
    """Image to segment, in one file or several.

    Args:
        path: file or folder as the user named it.
        files: files to send, in order.
    """

    path: Path
    files: tuple[Path, ...]

    @property
    def stem(self) -> str:
        """Name of its masks, without a suffix."""
        return self.path.name if self.path.is_dir() else stem_of(self.path)


def stem_of(path: Path) -> str:
    """Return the name up to the suffix; .nii.gz, .ome.tif and the like are one suffix."""
    return next((path.stem.removesuffix(each) for each in _DOUBLE_SUFFIXES if path.stem.endswith(each)), path.stem)


def find_images(inputs: Sequence[Path], *, together: bool) -> list[InputImage]:
    """Return one image per file, including the visible files that lie directly in folders.

    Args:
        inputs: files and folders.
        together: the files of each folder are one image, and so are all files among the inputs.

    Raises:
        ClientError: a path doesn't exist, there is no file, or two images' masks would have the same name.
    """
    for path in inputs:
        if not path.exists():
            raise ClientError("no_such_file", f"{path} doesn't exist; give files or folders of them")
    folders: list[tuple[Path, tuple[Path, ...]]] = []
    for path in filter(Path.is_dir, inputs):
        files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        folders.append((path, tuple(files)))
    named = tuple(path for path in inputs if not path.is_dir())
    if together:
        images = [InputImage(path, members) for path, members in folders if members]
        images += [InputImage(named[0], named)] if named else []
    else:
        images = [InputImage(file, (file,)) for _, members in folders for file in members]
        images += [InputImage(path, (path,)) for path in named]
    if not images:
        raise ClientError("no_inputs", "the folders given are empty; give images, slides, volumes or folders of them")
    first_by_stem: dict[str, InputImage] = {}
    for image in images:
        other = first_by_stem.setdefault(image.stem, image)
        if other is not image:
            message = f"{other.path} and {image.path} would have masks of the same name; rename one or send them separately"
            raise ClientError("same_stem", message)
    return images
