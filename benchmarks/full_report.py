"""Full report of both methods on a data set: plans, trainings and the comparison on cases that neither of them saw.

    PYTHONPATH=. .venv/bin/python benchmarks/full_report.py DATA -o FOLDER
        [--minutes 15] [--metrics dice,hd95] [--contest] [key=value ..]

DATA is a data set whose cases.csv has the splits train and val. The cases of val are held out: in FOLDER/NAME, which links to
DATA's files, they have the split test, and a fifth of the training groups has the split val. Both methods are planned by
`overtile plan --minutes`, trained by `overtile train` and compared by `overtile compare`, as a user would. The same command
resumes. Values of the config may follow. The report is FOLDER/report.html; the means are printed as a table in Markdown.
"""

import argparse
import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from datasets.cases import open_case_image, read_cases
from datasets.references import open_reference
from datasets.splits import draw_folds
from evaluation.comparison.bootstrap_interval import unit_means
from evaluation.comparison.measurement import describe_machine
from evaluation.metrics.glands import count_glands, dice_sums, hausdorff_sums, pooled_f1, pooled_sums
from evaluation.metrics.object_pair import ObjectPair
from evaluation.metrics.overlap import nan_mean
from inference.objects.find import number_objects
from inference.predictors.loading import load_predictor
from inference.segment import segment_array
from models import bundle

FOLDS = 5  # the first of the training groups validates
METHODS = ("unet", "sliding_window")


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", "-o", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=15.0, help="of each training")
    parser.add_argument("--metrics", default="", help="names with commas between; default: those that suit the references")
    parser.add_argument("--contest", action="store_true", help="also print the GlaS contest's scores over all objects together")
    parser.add_argument("overrides", nargs="*", help="values of the config: section.key=value")
    arguments = parser.parse_args()
    data = arguments.out / arguments.data.name
    if not data.exists():
        hold_out(arguments.data, data)
    for method in METHODS:
        config = arguments.out / f"{method}.yaml"
        if not config.exists():
            overtile("plan", data, "-o", config, "--method", method, "--minutes", arguments.minutes)
        overtile("train", config, f"run.folder={arguments.out / 'runs'}", f"run.name={method}", *arguments.overrides)
    report = arguments.out / "report.html"
    metrics = ("--metrics", arguments.metrics) if arguments.metrics else ()
    overtile("compare", *(arguments.out / "runs" / method for method in METHODS), "--data", data, "-o", report, *metrics)
    print_scores(report.with_suffix(".json"))
    if arguments.contest:
        print_contest([arguments.out / "runs" / method for method in METHODS], data)


def hold_out(data: Path, copy: Path) -> None:
    """Write a data set that links to another one's files, with its cases of val as test and a fifth of the others as val."""
    cases = read_cases(data)
    folds = draw_folds([case for case in cases if case.split == "train"], FOLDS, seed=0)
    copy.mkdir(parents=True)
    for folder in ("images", "references"):
        (copy / folder).symlink_to((data / folder).resolve())
    with (data / "cases.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["split"] = "test" if row["split"] == "val" else "val" if folds[row["case"]] == 0 else "train"
    with (copy / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def overtile(*words: object) -> None:
    """Run a command of Overtile, and end with its exit status if it fails."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    status = subprocess.run([sys.executable, "-m", "overtile", *map(str, words)], env=environment, check=False).returncode
    if status:
        raise SystemExit(status)


def print_scores(numbers: Path) -> None:
    """Print the means of all metrics over the held-out groups, or cases without groups, as a table in Markdown."""
    rows = json.loads(numbers.read_text())["scores"]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    names = list(dict.fromkeys((row["metric"], row["class"]) for row in rows))
    ran_on = describe_machine()
    print(f"{ran_on.processor}, {ran_on.cores} cores, {ran_on.device}, torch {ran_on.versions['torch']}")
    print(f"\n| metric | {' | '.join(methods)} |\n| --- |{' ---: |' * len(methods)}")
    for metric, label in names:
        cells = []
        for method in methods:
            chosen = [row for row in rows if (row["method"], row["metric"], row["class"]) == (method, metric, label)]
            values = [math.nan if row["value"] is None else row["value"] for row in chosen]
            cells.append(f"{nan_mean(unit_means(values, [row['group'] for row in chosen])):.3f}")
        print(f"| {metric}{f' of {label}' if label else ''} | {' | '.join(cells)} |")


def print_contest(bundles: list[Path], data: Path) -> None:
    """Print the GlaS contest's three scores, over the objects of all held-out cases together, in pixels."""
    print("\n| method | object F1 | object Dice | object Hausdorff, px |\n| --- | ---: | ---: | ---: |")
    for folder in bundles:
        loaded = bundle.load(folder)
        predictor = load_predictor(loaded)
        pairs = []
        for case in read_cases(data, loaded.config.data):
            if case.split != "test":
                continue
            with open_case_image(case) as image, open_reference(case, numbered=True) as reference:
                objects = number_objects(segment_array(image, predictor), loaded.config.inference)
                pairs.append(ObjectPair(objects, np.concatenate([block[0] for block in reference.blocks()])))
        scores = (
            f"{pooled_f1(map(count_glands, pairs)):.3f}",
            f"{pooled_sums(map(dice_sums, pairs)).mean:.3f}",
            f"{pooled_sums(map(hausdorff_sums, pairs)).mean:.1f}",
        )
        print(f"| {loaded.config.model.name} | {' | '.join(scores)} |")


if __name__ == "__main__":
    main()
