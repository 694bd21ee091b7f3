"""Masks, Dice, time and memory of nnU-Net on a data set, trained for a number of steps as its documentation describes.

    python -m venv NNUNET && NNUNET/bin/pip install torch==2.13.0 nnunetv2==2.8.1
    PYTHONPATH=. .venv/bin/python benchmarks/nnunet.py DATA --python NNUNET/bin/python --configuration 2d --steps 100

DATA is a data set whose cases.csv has a split. The data are written in nnU-Net's raw format. It plans and preprocesses, its
fold 0 is our split, and it validates as by default, with mirroring. Only the number of steps is changed, by a custom trainer as
it documents. All commands are nnU-Net's, run in its environment. Processor time includes all processes that a command starts;
unlike wall-clock time it doesn't depend on the machine's other work.
"""

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TRAINER = "nnUNetTrainerSteps"
EPOCHS = 5  # the learning rate falls at the end of each


@dataclass
class Cost:
    """Time of commands, including all processes that they start."""

    minutes: float = 0.0
    processor_minutes: float = 0.0


def main() -> None:
    """Print a table in Markdown, and copy the masks of the validation cases."""
    arguments = _arguments()
    if arguments.steps % EPOCHS:
        raise SystemExit(f"--steps {arguments.steps}: give a multiple of {EPOCHS}, the number of epochs")
    work, planning, training = arguments.work.resolve(), Cost(), Cost()
    with add_time(planning):
        dataset, splits = prepare(arguments.data, work, arguments.python, arguments.number, arguments.labels)
    _install_trainer(arguments.python)
    with add_time(training):
        steps = {"EPOCHS": str(EPOCHS), "ITERATIONS": str(arguments.steps // EPOCHS)}
        command = ["nnUNetv2_train", str(arguments.number), arguments.configuration, "0", "-tr", TRAINER]
        _nnunet(arguments.python, environment(work) | steps, *command, "-device", arguments.device)
    validation = work / "results" / dataset / f"{TRAINER}__nnUNetPlans__{arguments.configuration}" / "fold_0" / "validation"
    arguments.masks.mkdir(parents=True, exist_ok=True)
    for case in splits["val"]:
        mask = next(validation.glob(f"{case}.*"))
        shutil.copy(mask, arguments.masks / mask.name)
    dice = [values["Dice"] for values in json.loads((validation / "summary.json").read_text())["mean"].values()]
    print("\n| data | network | steps | Dice | planning, min | training and validation, min | processor min | peak, GiB |")
    print("| --- | --- | ---: | --- | ---: | ---: | ---: | ---: |")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(
        f"| {arguments.data.name} | {arguments.configuration} | {arguments.steps} | {', '.join(f'{v:.3f}' for v in dice)} "
        f"| {planning.minutes:.1f} | {training.minutes:.1f} | {training.processor_minutes:.1f} | {peak:.1f} |"
    )


def prepare(data: Path, work: Path, python: Path, number: int, labels: list[str]) -> tuple[str, dict[str, list[str]]]:
    """Have nnU-Net plan and preprocess, unless it has; return its name of the data set, and the cases of each split."""
    dataset = f"Dataset{number:03}_{data.resolve().name}"
    splits = convert(data, work / "raw" / dataset, labels)
    preprocessed = work / "preprocessed" / dataset
    if not (preprocessed / "dataset_fingerprint.json").exists():
        _nnunet(python, environment(work), "nnUNetv2_plan_and_preprocess", "-d", str(number), "-np", "1")
    (preprocessed / "splits_final.json").write_text(json.dumps([splits]))
    return dataset, splits


def convert(data: Path, raw: Path, labels: list[str]) -> dict[str, list[str]]:
    """Write the cases in nnU-Net's raw format, and return the names of each split's cases."""
    with (data / "cases.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] in ("train", "val")]
    ending = "".join(Path(rows[0]["image"]).suffixes)
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True, exist_ok=True)
    for row in rows:
        for channel, name in enumerate(row["image"].split(";")):
            shutil.copy(data / name, raw / "imagesTr" / f"{row['case']}_{channel:04}{ending}")
        shutil.copy(data / row["reference"], raw / "labelsTr" / f"{row['case']}{ending}")
    description = {
        "channel_names": {str(channel): f"channel {channel}" for channel in range(rows[0]["image"].count(";") + 1)},
        "labels": {"background": 0, **{label: value for value, label in enumerate(labels, start=1)}},
        "numTraining": len(rows),
        "file_ending": ending,
    }
    (raw / "dataset.json").write_text(json.dumps(description))
    return {split: [row["case"] for row in rows if row["split"] == split] for split in ("train", "val")}


@contextmanager
def add_time(cost: Cost) -> Iterator[None]:
    """Add the time of the commands that run inside of the context."""
    start_s, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    yield
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cost.minutes += (time.monotonic() - start_s) / 60
    cost.processor_minutes += (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 60


def environment(work: Path) -> dict[str, str]:
    """Return the environment of nnU-Net's commands: its folders, and one process beside the one that trains."""
    folders = {f"nnUNet_{name}": str(work / name) for name in ("raw", "preprocessed", "results")}
    return folders | {"nnUNet_compile": "f", "nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1"}


def _install_trainer(python: Path) -> None:
    """Copy the trainer into nnU-Net's own folder of trainers, where it looks for them by name."""
    code = "import nnunetv2.training.nnUNetTrainer as package; print(package.__path__[0])"
    folder = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    shutil.copy(Path(__file__).with_name("nnunet_trainer.py"), Path(folder) / f"{TRAINER}.py")


def _nnunet(python: Path, variables: dict[str, str], command: str, *arguments: str) -> None:
    subprocess.run([python, python.parent / command, *arguments], check=True, env=os.environ | variables)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--python", type=Path, required=True, help="Python of an environment with nnU-Net")
    parser.add_argument("--labels", nargs="+", default=["foreground"], help="names of the labels 1, 2, ..")
    parser.add_argument("--configuration", default="2d", help="2d or 3d_fullres")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--number", type=int, default=501, help="number of the data set in nnU-Net's folders")
    parser.add_argument("--work", type=Path, default=Path("build/nnunet"), help="nnU-Net's folders")
    parser.add_argument("--masks", type=Path, default=Path("build/nnunet/masks"), help="folder for the masks")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
