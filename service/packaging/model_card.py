"""Model cards in Markdown: a model's purpose, training, validation and limits, from its bundle's manifest and config.

A card omits whatever the bundle doesn't contain.
"""

import hashlib
import re
from typing import TYPE_CHECKING

from configs.network_sections import UNetSection
from configs.schema import Config

if TYPE_CHECKING:
    from inference.predictors.runtime_parity import RuntimeParity
    from models.bundle_metrics import BundleMetrics
    from models.manifest import Manifest

METHODS = {"unet": "U-Net", "sliding_window": "sliding-window pixel classifier"}
HEADS = {
    "softmax": "Each pixel gets exactly one class.",
    "sigmoid": "Each pixel gets one of two classes.",
    "multi_label": "Classes may overlap; in a mask a pixel has the likeliest one.",
    "ordinal": "Each pixel gets one class; the classes are in order.",
    "regression": "Each pixel gets a value, no class.",
    "unit_regression": "Each pixel gets a value from 0 to 1, no class.",
}
METRICS = {
    "dice": "Dice, 0 to 1: twice the overlap of mask and reference over the sum of both, mean over the foreground classes",
    "quadratic_kappa": "quadratically weighted kappa of the pixels' grades: agreement beyond chance, 1 is full agreement",
    "r2": "R², the share of the values' variance that is explained; 0 is what their mean would get",
    "label_accuracy": "share of whole images whose label is right",
    "label_f1": "F1 of the labels of whole images, each weighted by how often it is true",
}
SPECIAL = re.compile(r"([\\`*_\[\]<>#|])")


def model_card(
    manifest: "Manifest",
    config: Config,
    *,
    parity: "RuntimeParity | None" = None,
    metrics: "BundleMetrics | None" = None,
) -> str:
    """Return the card, with headings from the first level on.

    Args:
        manifest: manifest of the bundle.
        config: config of the bundle.
        parity: result of the check on the bundle's sample at packaging; None without such a check.
        metrics: scores of the validation cases; None where the bundle has none.
    """
    images = f"{len(manifest.training_images)} images" if manifest.training_images else "images"
    sections = {
        "Intended use": [_text(manifest.intended_use)],
        "Method": _method(manifest, config),
        "Classes": _classes(manifest, config),
        "Input": _input(manifest, config),
        "Training data": _training(manifest),
        "Validation": _validation(manifest, metrics),
        "Calibration": _calibration(manifest),
        "Runtime": [f"On the bundle's sample, compared with torch in float32 as training stored it: {_text(parity.text)}."]
        if parity
        else [],
        "Limits": [
            f"- Trained and validated on {images} of one data set. Nothing is known about other scanners, stains, sequences, "
            "sites and populations.",
            "- An image of something else gets a mask, too.",
        ],
        "Versions": [
            f"- Bundle of format {manifest.format_version}, made {_text(manifest.created)}",
            *(f"- {_text(package)} {_text(version)}" for package, version in manifest.versions.items()),
            *([f"- Commit `{manifest.commit}`"] if manifest.commit else []),
        ],
        "Calling it": _calling(manifest, config),
    }
    parts = [f"# {_text(manifest.name)}\n"]
    parts += ["\n".join([f"## {title}\n", *lines, ""]) for title, lines in sections.items() if lines]
    return "\n".join(parts)


def fingerprint(manifest: "Manifest") -> str:
    """Return a SHA-256 over those of the training images: equal for two models that were trained on the same files."""
    return hashlib.sha256("\n".join(sorted(manifest.training_images)).encode()).hexdigest()


def _method(manifest: "Manifest", config: Config) -> list[str]:
    """Return the lines on the network, the ensemble and the averaging."""
    section = config.model
    if isinstance(section, UNetSection):
        facts = f"features {', '.join(map(str, section.features))}; {section.padding} padding; norm {section.norm}"
    else:
        facts = f"window {section.window} px; {len(section.convolutions)} convolutions; norm {section.norm}"
    networks = len(manifest.member_priors)
    ensemble = [f"- Ensemble: {networks} networks, whose logits are averaged"] if networks else []
    average = [f"- Averaged over: {config.inference.average}"] if config.inference.average != "none" else []
    return [f"- {METHODS[manifest.method]} in {manifest.dimensions}D: {facts}", *ensemble, *average]


def _classes(manifest: "Manifest", config: Config) -> list[str]:
    """Return a table of the classes, and a line on the labels of whole images where there are any."""
    shares = [""] * len(manifest.classes)
    if len(manifest.class_prior) == len(manifest.classes) > 1:  # a single value has no share
        shares = [f"{share:.2%}" for share in manifest.class_prior]
    rows = [
        f"| {label} | {_text(section.name)} | `{section.colour}` | {share} |"
        for label, (section, share) in enumerate(zip(manifest.classes, shares, strict=True))
    ]
    labels = config.image_label.classes
    image_labels = ["", f"Whole images get a label, too: {', '.join(map(_text, labels))}."] if labels else []
    header = ["| label | name | colour | share of the training pixels |", "| --- | --- | --- | --- |"]
    return [f"{HEADS[config.head.kind]}\n", *header, *rows, *image_labels]


def _input(manifest: "Manifest", config: Config) -> list[str]:
    """Return the lines on dimensions, spacing, channels, normalisation and margin."""
    section = config.normalise
    ends = f"{section.lower:g} .. {section.upper:g}"
    normalisation = "each channel of each image by its own mean and standard deviation"
    if section.method == "range":
        normalisation = f"{ends} becomes -1 .. 1"
    elif section.method == "ct":
        normalisation = f"clipped to {ends}, less {section.mean:g}, divided by {section.deviation:g}"
    lines = [
        f"- Images in {manifest.dimensions}D",
        f"- Channels: {', '.join(map(_text, manifest.channels))}",
        f"- Normalised by: {normalisation}",
        f"- Margin, the pixels that the network needs around its output: {manifest.margin_px[0]} before, "
        f"{manifest.margin_px[1]} after",
    ]
    if manifest.spacing_um:
        factor, unit = (1e-3, "mm") if manifest.dimensions == 3 else (1, "µm")
        spacing = " x ".join(f"{step * factor:g}" for step in manifest.spacing_um)
        lines.insert(2, f"- Spacing: {spacing} {unit} ({'z, ' if manifest.dimensions == 3 else ''}y, x); others are resampled")
    return lines


def _training(manifest: "Manifest") -> list[str]:
    """Return the lines on the training's images and steps."""
    lines = [f"- Steps: {manifest.training_steps}, in {manifest.training_seconds:.0f} s"]
    if manifest.training_images:
        lines = [
            f"- Images that training saw, validation included: {len(manifest.training_images)}",
            f"- Fingerprint of their files: `{fingerprint(manifest)}`",
            *lines,
        ]
    return lines


def _validation(manifest: "Manifest", metrics: "BundleMetrics | None") -> list[str]:
    """Return a line per score that ranked the networks, and a table of all metrics, each with its meaning."""
    lines = [
        f"- {_text(name)}: {value:.4g}" + (f" ({METRICS[name]})" if name in METRICS else "")
        for name, value in manifest.validation.items()
    ]
    if lines:
        lines += ["", "Means over the validation cases, by which the network was also chosen."]
    if metrics is None or not metrics.metrics:
        return lines
    rows = []
    for metric in metrics.metrics:
        means = [f"{_text(name)} {_value(mean)}" for name, mean in metric.classes.items()] if len(metric.classes) > 1 else []
        unit = "µm" if metric.unit == "um" else metric.unit
        cells = (_text(metric.title), f"{_value(metric.mean)} {unit}".strip(), ", ".join(means), str(metric.cases))
        rows.append(f"| {' | '.join(cells)} | {_text(metric.convention)} |")
    header = ["| metric | mean | by class | cases | convention |", "| --- | --- | --- | --- | --- |"]
    notes = [_text(note) for note in metrics.notes]
    return [*lines, "", *header, *rows, *(["", *notes] if notes else [])]


def _value(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4g}"


def _calibration(manifest: "Manifest") -> list[str]:
    """Return the lines on the temperature and on what it changed; empty for probabilities that aren't calibrated."""
    calibration = manifest.calibration
    if calibration is None:
        return []
    lines = [
        f"- Temperature: {calibration.temperature:.3g}. The logits are divided by it before probabilities and uncertainty are "
        "computed from them; masks don't depend on it.",
        f"- Expected calibration error: {calibration.before.ece:.3f} without and {calibration.after.ece:.3f} with it, in and "
        f"near the foreground of the {calibration.cases} validation cases that it was fitted on",
    ]
    if calibration.low_confidence is not None:
        lines.append(
            f"- An image whose foreground has a mean probability below {calibration.low_confidence:.2f} gets the remark "
            "low\\_confidence."
        )
    return lines


def _calling(manifest: "Manifest", config: Config) -> list[str]:
    """Return the commands that segment an image, as a code block."""
    if config.head.kind in ("regression", "unit_regression"):
        return ["    overtile predict IMAGE -b BUNDLE -o FOLDER"]
    image, mask_format = ("image.png", "png") if manifest.dimensions == 2 else ("image.nii.gz", "nifti")
    address = f"http://127.0.0.1:3000/v1/segment?model={manifest.name}&format={mask_format}"
    return [
        "    overtile serve",
        f'    curl --data-binary @{image} -o mask "{address}"',
        "",
        'Where the server has keys, add `-H "Authorization: Bearer KEY"`. The other routes are at `/docs`.',
    ]


def _text(words: str) -> str:
    """Return the words in one line, with Markdown and HTML characters escaped."""
    return SPECIAL.sub(r"\\\1", " ".join(words.split()))
