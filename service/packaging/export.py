"""Bundles -> folders for other programs: an ONNX file, a package for bioimage.io, the manifest."""

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
from models.portable import portable
from service.packaging.bioimageio import WEIGHTS, Credits, write_package
from service.packaging.bioimageio_tensors import sizes_of

ENOUGH_NEARNESS = 1e-3  # of the logits' range, between ONNX Runtime and torch


def export(bundle_folders: Sequence[Path], folder: Path, credits: Credits, tell: Callable[[str], None]) -> None:
    """Writes `NAME/` for each bundle: `model.onnx`, `NAME.zip` and `manifest.json`; each folder whole or not at all.

    An ensemble becomes one network that gives the mean of the logits.

    Args:
        bundle_folders: of finished runs.
        folder: is made where it isn't there.
        credits: the authors and the licence.
        tell: is called with a line a bundle: where it lies, and how near its answers are to torch's.

    Raises:
        BundleError: a folder isn't a bundle or was changed, a bundle has no sample or can't be exported, something is at its
            place, or no author is given.
    """
    check_credits(credits)
    bundles = [load(each) for each in bundle_folders]
    for bundle in bundles:
        _check_exportable(bundle, folder)
    folder.mkdir(parents=True, exist_ok=True)
    for bundle in bundles:
        tell(_export(bundle, folder, credits))


def check_credits(credits: Credits) -> None:
    """Nothing, when the format takes them.

    Raises:
        BundleError: otherwise.
    """
    if not credits.authors:
        raise BundleError("no author, whom a package for bioimage.io has to name; add --author NAME, once for each")
    for name in credits.authors:
        if not name.strip() or re.search(r"[/\\]", name):
            raise BundleError(f"--author {name!r}: not a name; give one without / and \\")
    if credits.licence is not None and not re.fullmatch(r"[A-Za-z0-9.+-]+", credits.licence):
        raise BundleError(f"--licence {credits.licence!r}: not an SPDX identifier, for example CC-BY-4.0")


def _check_exportable(bundle: Bundle, folder: Path) -> None:
    name = bundle.manifest.name
    if bundle.sample is None:
        raise BundleError(f"{bundle.folder}: holds no sample to check the exported network by; train again to have one")
    if (folder / name).exists():
        raise BundleError(f"{folder / name} is there already; give another --export, or move it away")


def _export(bundle: Bundle, folder: Path, credits: Credits) -> str:
    """What came of it, in a line."""
    name, module = bundle.manifest.name, portable(bundle)
    patches = _sample_patches(bundle)
    model = onnx_of(module, torch.cat([patches] * 2))
    difference = max(_difference(model, module, piece) for piece in (patches, _smaller(bundle, patches)))
    if not difference <= ENOUGH_NEARNESS:
        raise BundleError(
            f"{name}: ONNX Runtime is off by {difference:.2g} of the logits' range, allowed is {ENOUGH_NEARNESS:g}; "
            "nothing was written: this network needs torch, serve it by overtile serve"
        )
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as temporary:
        made = Path(temporary) / name
        made.mkdir()
        (made / WEIGHTS).write_bytes(model)
        shutil.copyfile(bundle.folder / MANIFEST, made / MANIFEST)
        write_package(made / f"{name}.zip", bundle, module, model, credits)
        try:
            made.rename(folder / name)
        except OSError as error:
            raise BundleError(f"{folder / name} is there already; give another --export, or move it away") from error
    return f"{name}: {folder / name}; ONNX Runtime and torch differ by {difference:.2g} of the logits' range at most"


def _sample_patches(bundle: Bundle) -> Tensor:
    """(1, C, *S)."""
    if bundle.sample is None:
        raise ValueError("the bundle has no sample")
    return bundle.sample.patches


def _smaller(bundle: Bundle, patches: Tensor) -> Tensor:
    """A piece of the patches of another size that the network takes, or the patches where there is none."""
    region = [slice(None), slice(None)]
    for side, sizes in zip(patches.shape[2:], sizes_of(bundle.config), strict=True):
        fits = side - sizes.step * (side // (2 * sizes.step))
        smallest = sizes.lost + 1 if sizes.lost else 2 * sizes.step
        region.append(slice(fits if fits >= smallest else side))
    return patches[tuple(region)]


def _difference(model: bytes, module: nn.Module, patches: Tensor) -> float:
    """The largest one between the logits, as a share of their range."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found = session.run([OUTPUT], {INPUT: patches.contiguous().numpy()})[0]
    with torch.inference_mode():
        wanted = module(patches).numpy()
    return float(np.abs(found - wanted).max() / max(np.ptp(wanted), np.finfo(np.float32).eps))
