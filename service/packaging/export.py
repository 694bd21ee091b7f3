"""Export of bundles for other programs: a folder with an ONNX file, a package for bioimage.io and the manifest."""

import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from models.bundle import MANIFEST, Bundle, load
from models.errors import BundleError
from models.onnx_export import INPUT, OUTPUT, onnx_of
from models.portable import portable_module
from service.packaging.bioimageio import WEIGHTS, Credits, write_package
from service.packaging.bioimageio_tensors import sizes_of

MAX_DIFFERENCE = 1e-3  # between ONNX Runtime and torch, as a share of the logits' range


def export(bundle_folders: Sequence[Path], folder: Path, credits: Credits, tell: Callable[[str], None]) -> None:
    """Write a folder `NAME/` for each bundle: `model.onnx`, `NAME.zip` and `manifest.json`; each folder whole or not at all.

    An ensemble becomes one network that gives the mean of the logits.

    Args:
        bundle_folders: bundles of finished runs.
        folder: parent of the folders; is created where it doesn't exist.
        credits: authors and licence.
        tell: is called with one line per bundle: its folder, and the difference between ONNX Runtime and torch.

    Raises:
        BundleError: a folder isn't a bundle or was changed, a bundle has no sample or can't be exported, its folder exists
            already, or no author is given.
    """
    check_credits(credits)
    bundles = [load(each) for each in bundle_folders]
    for bundle in bundles:
        if bundle.sample is None:
            raise BundleError(f"{bundle.folder}: holds no sample to check the exported network by; train again to have one")
        if (folder / bundle.manifest.name).exists():
            raise _exists_error(folder / bundle.manifest.name)
    folder.mkdir(parents=True, exist_ok=True)
    for bundle in bundles:
        tell(_export(bundle, folder, credits))


def check_credits(credits: Credits) -> None:
    """Check that the format takes the credits.

    Raises:
        BundleError: there is no author, a name holds a slash, or the licence isn't an identifier.
    """
    if not credits.authors:
        raise BundleError("no author, whom a package for bioimage.io has to name; add --author NAME, once for each")
    for name in credits.authors:
        if not name.strip() or re.search(r"[/\\]", name):
            raise BundleError(f"--author {name!r}: not a name; give one without / and \\")
    if credits.licence is not None and not re.fullmatch(r"[A-Za-z0-9.+-]+", credits.licence):
        raise BundleError(f"--licence {credits.licence!r}: not an SPDX identifier, for example CC-BY-4.0")


def _exists_error(folder: Path) -> BundleError:
    """Return the error for a folder that exists already."""
    return BundleError(f"{folder} is there already; give another --export, or move it away")


def _export(bundle: Bundle, folder: Path, credits: Credits) -> str:
    """Export a bundle and return one line for the user."""
    if bundle.sample is None:
        raise ValueError("the bundle has no sample")
    name, module, patches = bundle.manifest.name, portable_module(bundle), bundle.sample.patches
    model = onnx_of(module, torch.cat([patches] * 2))
    difference = max(_difference(model, module, images) for images in (patches, _smaller(bundle, patches)))
    if not difference <= MAX_DIFFERENCE:
        raise BundleError(
            f"{name}: ONNX Runtime is off by {difference:.2g} of the logits' range, allowed is {MAX_DIFFERENCE:g}; "
            "nothing was written: this network needs torch, serve it by overtile serve"
        )
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as temporary:
        export_folder = Path(temporary) / name
        export_folder.mkdir()
        (export_folder / WEIGHTS).write_bytes(model)
        shutil.copyfile(bundle.folder / MANIFEST, export_folder / MANIFEST)
        write_package(export_folder / f"{name}.zip", bundle, module, model, credits)
        try:
            export_folder.rename(folder / name)
        except OSError as error:
            raise _exists_error(folder / name) from error
    return f"{name}: {folder / name}; ONNX Runtime and torch differ by {difference:.2g} of the logits' range at most"


def _smaller(bundle: Bundle, patches: Tensor) -> Tensor:
    """Cut the patches to a smaller size that the network takes; return them as they are where there is none."""
    region = [slice(None), slice(None)]
    for side, sizes in zip(patches.shape[2:], sizes_of(bundle.config), strict=True):
        smaller_px = side - sizes.step * (side // (2 * sizes.step))
        smallest_px = sizes.lost + 1 if sizes.lost else 2 * sizes.step
        region.append(slice(smaller_px if smaller_px >= smallest_px else side))
    return patches[tuple(region)]


def _difference(model: bytes, module: nn.Module, patches: Tensor) -> float:
    """Return the largest difference between ONNX Runtime's and torch's logits, as a share of their range."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    onnx_logits = session.run([OUTPUT], {INPUT: patches.contiguous().numpy()})[0]
    with torch.inference_mode():
        torch_logits = module(patches).numpy()
    return float(np.abs(onnx_logits - torch_logits).max() / max(np.ptp(torch_logits), np.finfo(np.float32).eps))
