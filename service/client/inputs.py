"""Images to send: the files of each, found from the paths on the command line, and the name of its masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.client.errors import ClientError

if TYPE_CHECKING:  # the client is used without image libraries
    from datasets.channels import ImageInput


@dataclass(frozen=True)
class InputImage:
    """Image in one file or in several.

    Args:
        path: file or folder as the user named it.
        files: files to send, in order.
        stem: name of its masks, without a suffix.
        spacing_um: distance between pixels where a cases.csv gives it.
        axes: letters of a TIFF's axes where a cases.csv gives them.
        has_strangers: the path is a series' folder, and files in it that are no slices are not sent.
    """

    path: Path
    files: tuple[Path, ...]
    stem: str
    spacing_um: tuple[float, ...] | None = None
    axes: str | None = None
    has_strangers: bool = False


def find_images(inputs: Sequence[str], *, together: bool) -> tuple[list[InputImage], tuple[Path, ...]]:
    """Return the images among the inputs, and the files in folders that are no images; see `datasets.inputs.find_inputs`.

    Args:
        inputs: files, folders, a cases.csv, or files with `;` between.
        together: the images of each folder are the channels of one image, and so are all files among the inputs.

    Raises:
        ClientError: a path doesn't exist, there is no image, or two images' masks would have the same name.
        DataError: a cases.csv is broken.
    """
    from datasets.channels import SEPARATOR
    from datasets.inputs import find_inputs
    from imaging.errors import DataError

    for name in inputs:
        if not all(Path(part.strip()).exists() for part in ([name] if Path(name).exists() else name.split(SEPARATOR))):
            raise ClientError("no_such_file", f"{name} doesn't exist; give files or folders of them")
    groups = [[name] for name in inputs if not together or Path(name).is_dir()]
    if together and (files := [name for name in inputs if not Path(name).is_dir()]):
        groups.append(files)
    images: list[InputImage] = []
    skipped: list[Path] = []
    try:
        for group in groups if together else [list(inputs)]:
            found = find_inputs(group)
            skipped += found.skipped
            if together:  # named by the folder, or by the first file
                path, to_send = Path(group[0]), tuple(file for image in found.images for file in _files_of(image))
                images.append(InputImage(path, to_send, path.name if path.is_dir() else found.images[0].stem))
                continue
            folders = {path.parent for path in found.skipped}
            for image in found.images:
                path, has_strangers = image.paths[0], image.paths[0] in folders
                images.append(InputImage(path, _files_of(image), image.stem, image.spacing_um, image.axes, has_strangers))
    except DataError as error:
        if error.code in ("no_inputs", "same_stem"):
            raise ClientError(error.code, error.message) from error
        raise
    return images, tuple(skipped)


def _files_of(image: "ImageInput") -> tuple[Path, ...]:
    """Return the files to send: of a folder with a DICOM series its slices.

    Raises:
        ClientError: `folder_not_sent`: an OME-Zarr, which is a folder of files of its own.
    """
    from imaging.dicom.volume import find_slices
    from imaging.ome_zarr.image import is_zarr

    files: list[Path] = []
    for path in image.paths:
        if is_zarr(path):
            message = f"{path} is an OME-Zarr, a folder, and folders can't be sent; convert it to OME-TIFF"
            raise ClientError("folder_not_sent", message)
        files += find_slices(path) if path.is_dir() else [path]
    return tuple(files)
