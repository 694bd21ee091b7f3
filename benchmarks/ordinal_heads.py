"""Comparison of the three encodings of ordered grades of de Vente et al. (2020) on synthetic lesions.

    PYTHONPATH=. .venv/bin/python benchmarks/ordinal_heads.py [--steps 300] [--seeds 3] [--cases 24] [--out FOLDER]

Each image has round lesions of the grades 1 to 4 on a noisy background of grade 0. The grade determines brightness and grain,
but with an error of about a grade, so that lesions of neighbouring grades look alike and an error of one grade is smaller than
one of two. The same small U-Net learns the grades by cross-entropy with each encoding, on the same images for each seed; the
best checkpoint is chosen by kappa on separate images. Scores are those of test images, means over seeds: quadratic weighted
kappa of all pixels with all 5 grades in the weights, and for the pixels of lesions the share with the right grade and the mean
error in grades. Intervals are bootstrapped over images. The paper, on prostate MRI, prefers soft labels (kappa .446 by voxel).
"""

import argparse
import csv
import platform
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from scipy import stats
from scipy.ndimage import gaussian_filter

from configs import schema
from evaluation.comparison.paired_difference import paired_difference
from evaluation.metrics.classification import quadratic_weighted_kappa
from evaluation.metrics.overlap import confusion
from imaging.open import open_image
from inference.predictors.loading import load_predictor
from inference.predictors.predictor import Predictor
from inference.segment import segment_array
from models import bundle
from training.run import train

CONFIG = Path(__file__).parents[1] / "configs" / "histology_unet.yaml"
# the others are compared with the first
ENCODINGS = {"one_hot": "one hot", "soft_label": "soft label", "cumulative": "cumulative"}
GRADES = 5
SHAPE = (96, 96)
APPEARANCE_ERROR = 0.45  # standard deviation of a lesion's appearance from its grade, in grades
NOISE = 9.0  # standard deviation, in grey levels of 255
SPLITS = ("train", "val", "test")
CLASSES = ", ".join(f"{{name: grade {grade}, colour: '#0000{40 * grade:02x}'}}" for grade in range(GRADES))
COMMON = (
    "data.channels=[grey]",
    f"data.classes=[{CLASSES}]",
    "head.kind=ordinal",
    "loss.name=cross_entropy",
    "model.features=[8,16,32]",
    "sampling.patch_size=[64,64]",
    "sampling.foreground_share=1",
    "augment.brightness=0",
    "augment.contrast=0",
    "augment.gamma=0",
    "augment.noise=0",
    "augment.elastic_px=0",
    "augment.scaling=0",
    "trainer.batch_size=8",
    "trainer.patience=100",
)

GradeScores = dict[str, list[list[float]]]  # by metric: for each seed a value per image


def main() -> None:
    """Print a table in Markdown, and with `--out` write it to OUT/ordinal_heads.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", type=int, default=24, help="number of training images, and of test images")
    parser.add_argument("--out", type=Path, help="folder for runs and table; another call resumes there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.out or Path(temporary)
        write_data(folder / "data", arguments.cases)
        scores = {encoding: scores_of(folder, encoding, arguments.steps, arguments.seeds) for encoding in ENCODINGS}
    introduction = (
        f"{arguments.cases} training images, {max(2, arguments.cases // 3)} to choose the checkpoint, {arguments.cases} test "
        f"images; {arguments.steps} steps, {arguments.seeds} seeds; 95% bootstrap intervals over images. {machine()}"
    )
    text = f"{introduction}\n\n" + "\n".join(table(scores))
    print(text)
    if arguments.out:
        (arguments.out / "ordinal_heads.md").write_text(text + "\n")


def draw(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a synthetic image (H, W) and its grades (H, W)."""
    random = np.random.default_rng(seed)
    grades, appearance = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE)
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    for _ in range(random.integers(3, 7)):
        grade = int(random.integers(1, GRADES))
        row, column, radius = random.uniform(0, SHAPE[0]), random.uniform(0, SHAPE[1]), random.uniform(7, 14)
        here = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
        grades[here], appearance[here] = grade, max(0.4, grade + random.normal(scale=APPEARANCE_ERROR))
    grain = gaussian_filter(random.normal(size=SHAPE), 1.0) * 6 * appearance
    image = 70 + 26 * gaussian_filter(appearance, 1.0) + grain + random.normal(scale=NOISE, size=SHAPE)
    return image.clip(0, 255).astype(np.uint8), grades


def write_data(folder: Path, cases: int) -> None:
    """Write the images of all splits with their cases.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = [split for split, count in zip(SPLITS, (cases, max(2, cases // 3), cases), strict=True) for _ in range(count)]
    with (folder / "cases.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("case", "image", "reference", "split"))
        for number, split in enumerate(splits):
            for name, pixels in zip((f"{number}.png", f"{number}_grades.png"), draw(number), strict=True):
                Image.fromarray(pixels).save(folder / name)
            rows.writerow((number, f"{number}.png", f"{number}_grades.png", split))


def scores_of(folder: Path, encoding: str, steps: int, seeds: int) -> GradeScores:
    """Train a network for each seed, and return its scores on each test image."""
    scores: GradeScores = {"kappa": [], "right": [], "off": []}
    for seed in range(seeds):
        counts = confusion_matrices(train_network(folder, encoding, steps, seed), folder / "data")
        apart = np.abs(np.subtract.outer(np.arange(GRADES), np.arange(GRADES)))
        scores["kappa"].append([quadratic_weighted_kappa(each) for each in counts])
        scores["right"].append([each[1:].diagonal(1).sum() / each[1:].sum() for each in counts])
        scores["off"].append([(apart * each)[1:].sum() / each[1:].sum() for each in counts])
    return scores


def train_network(folder: Path, encoding: str, steps: int, seed: int) -> Predictor:
    """Train a small U-Net, and return its predictor."""
    overrides = (
        f"run.name={encoding}_{seed}",
        f"run.folder={folder / 'runs'}",
        f"run.seed={seed}",
        f"data.path={folder / 'data'}",
        f"head.encoding={encoding}",
        f"trainer.max_steps={steps}",
        f"trainer.validate_every_steps={max(1, steps // 4)}",
    )
    config = schema.load(CONFIG, [*COMMON, *overrides])
    return load_predictor(bundle.load(train(config, Console(stderr=True))))


def confusion_matrices(predictor: Predictor, data: Path) -> list[NDArray[np.int64]]:
    """Return the confusion matrix (K, K) of each test image, with the true grades as rows."""
    with (data / "cases.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    counts = []
    for row in rows:
        with open_image(data / row["image"]) as image:
            mask = segment_array(image, predictor)
        counts.append(confusion(mask, np.asarray(Image.open(data / row["reference"])), GRADES))
    return counts


def table(scores: Mapping[str, GradeScores]) -> Sequence[str]:
    """Return the lines of the table, one per encoding."""
    lines = [
        "| encoding | kappa | more kappa than one hot | lesion pixels of the right grade | grades off in lesions |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    base = np.mean(scores["one_hot"]["kappa"], axis=0)
    for encoding, name in ENCODINGS.items():
        means = {metric: np.mean(values, axis=0) for metric, values in scores[encoding].items()}
        cells = [interval(means["kappa"]), gain(base, means["kappa"]), interval(means["right"]), interval(means["off"])]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def gain(base: NDArray[np.float64], values: NDArray[np.float64]) -> str:
    """Return the paired difference of the values from the base, with its interval."""
    difference = paired_difference(base.tolist(), values.tolist())
    if difference.interval is None:
        return "" if difference.mean == 0 else f"{difference.mean:+.3f}"
    return f"{difference.mean:+.3f} ({difference.interval[0]:+.3f} to {difference.interval[1]:+.3f})"


def interval(values: NDArray[np.float64]) -> str:
    """Return the mean over images with its 95% bootstrap interval."""
    if len(values) < 3:
        return f"{values.mean():.3f}"
    limits = stats.bootstrap((values,), np.mean, rng=np.random.default_rng(0)).confidence_interval
    return f"{values.mean():.3f} ({limits.low:.3f} to {limits.high:.3f})"


def machine() -> str:
    """Return the machine and the versions in a line."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads of a CPU"
    return f"{platform.machine()}, {device}; Python {platform.python_version()}, torch {version('torch')}."


if __name__ == "__main__":
    main()
