"""Packages for the programs around bioimage.io: one zip of a bundle's ONNX file and its model description (format 0.5)."""

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
import yaml
from numpy.typing import NDArray
from torch import nn

from models.bundle import Bundle, Sample
from models.heads import make_head
from service.packaging.bioimageio_tensors import (
    Fields,
    Floats,
    input_fields,
    normalise_image,
    original_values,
    output_fields,
    postprocess,
)
from service.packaging.cover import cover
from service.packaging.model_card import METHODS, model_card

FORMAT_VERSION = "0.5.14"
DESCRIPTION, WEIGHTS, DOCUMENTATION, COVER = "bioimageio.yaml", "model.onnx", "documentation.md", "cover.png"
TEST_INPUT, TEST_OUTPUT = "test_input.npy", "test_output.npy"
CITATIONS = {  # by method
    "unet": ("Ronneberger, Fischer and Brox 2015, U-Net", "10.48550/arXiv.1505.04597"),
    "sliding_window": ("Giusti et al. 2013, Fast image scanning with deep max-pooling networks", "10.48550/arXiv.1302.1700"),
}


@dataclass(frozen=True)
class Credits:
    """Authors and licence of a model, which the bundle doesn't hold and a package has to name.

    Args:
        authors: names of those who made the model.
        licence: SPDX identifier; None leaves the licence out of the package.
    """

    authors: tuple[str, ...]
    licence: str | None = None


def write_package(path: Path, bundle: Bundle, module: nn.Module, model: bytes, credits: Credits) -> None:
    """Write the zip.

    Args:
        path: file that is written.
        bundle: bundle with a sample.
        module: network that was exported.
        model: content of the ONNX file.
        credits: authors and licence.

    Raises:
        ValueError: the bundle has no sample.
    """
    if bundle.sample is None:
        raise ValueError("the bundle has no sample")
    files = {WEIGHTS: model, DOCUMENTATION: _documentation(bundle).encode(), **_examples(bundle, bundle.sample, module)}
    description = yaml.safe_dump(_description(bundle, files, credits), sort_keys=False, allow_unicode=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in {DESCRIPTION: description.encode(), **files}.items():
            package.writestr(name, content)


def _examples(bundle: Bundle, sample: Sample, module: nn.Module) -> dict[str, bytes]:
    """Return the files of a test input in the image's own values, of the output for it, and of a cover that shows both."""
    config = bundle.config
    image = original_values(config, sample.patches.numpy())
    patches = normalise_image(config, image)
    with torch.inference_mode():
        logits: Floats = module(torch.from_numpy(patches)).numpy()
    head = make_head(config, bundle.manifest.calibration)
    logits = logits[:, : head.outputs]
    return {
        TEST_INPUT: _npy(image),
        TEST_OUTPUT: _npy(postprocess(config, logits, head.temperature)),
        COVER: cover(config, patches[0], logits[0]),
    }


def _npy(array: NDArray[np.float32]) -> bytes:
    """Return the content of a `.npy` file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _description(bundle: Bundle, files: dict[str, bytes], credits: Credits) -> Fields:
    """Return the fields of `bioimageio.yaml`; `files` are the other files of the package."""
    manifest, config = bundle.manifest, bundle.config
    sources = {name: {"source": name, "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()}
    text, doi = CITATIONS[manifest.method]
    classes = ", ".join(section.name for section in manifest.classes)
    summary = f"{METHODS[manifest.method]} for images in {manifest.dimensions}D: {classes}. {manifest.intended_use}"
    opsets = onnx.load_from_string(files[WEIGHTS]).opset_import
    opset_version = next(int(each.version) for each in opsets if each.domain in ("", "ai.onnx"))
    fields = {
        "format_version": FORMAT_VERSION,
        "type": "model",
        # a name may hold no dot
        "name": f"{manifest.name.replace('.', '_')} ({METHODS[manifest.method]} {manifest.dimensions}D)",
        "description": summary[:512],
        "authors": [{"name": name} for name in credits.authors],
        "cite": [{"text": text, "doi": doi}],
        "license": credits.licence,
        "documentation": sources[DOCUMENTATION],
        "covers": [sources[COVER]],
        "tags": ["overtile", "segmentation", manifest.method.replace("_", "-"), f"{manifest.dimensions}d"],
        "timestamp": manifest.created,
        "inputs": [input_fields(config, sources[TEST_INPUT])],
        "outputs": [output_fields(config, sources[TEST_OUTPUT], make_head(config, manifest.calibration).temperature)],
        "weights": {"onnx": {**sources[WEIGHTS], "opset_version": opset_version}},
        "config": {"overtile": {"classes": [section.model_dump(exclude_none=True) for section in manifest.classes]}},
    }
    return {name: value for name, value in fields.items() if value is not None}


def _documentation(bundle: Bundle) -> str:
    """Return the model card, with a section on what the description has no fields for."""
    config = bundle.config
    lines = [
        f"- The weights take what `preprocessing` gives, and give logits; `{TEST_INPUT}` holds an image's own values.",
        "- Weights and description say nothing of the image's pixel size but the axes' `scale`: bring images to it.",
    ]
    if config.normalise.method == "zscore":
        lines.append(
            "- Mean and deviation are those of the whole image, not of a tile; the test input counts as a whole image."
        )
    if config.inference.average != "none":
        lines.append(f"- Overtile averages over {config.inference.average}; the weights are one pass without that.")
    if bundle.manifest.calibration:
        lines.append(
            "- `postprocessing` divides the logits by the temperature of the calibration; the weights give them undivided."
        )
    if config.image_label.classes:
        lines.append("- The label of a whole image isn't in the weights.")
    if config.data.spacing_um is None:
        lines.pop(1)
    return "\n".join([model_card(bundle.manifest, config, metrics=bundle.metrics), "## In this package\n", *lines, ""])
