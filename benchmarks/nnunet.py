"""nnU-Net on a folder of cases, by its own documentation, with a budget of steps: its masks, its Dice, minutes and memory.

    python -m venv NNUNET && NNUNET/bin/pip install torch==2.13.0 nnunetv2==2.8.1
    PYTHONPATH=. .venv/bin/python benchmarks/nnunet.py DATA --python NNUNET/bin/python --configuration 2d --steps 100

DATA holds cases.csv with a split. The data become nnU-Net's raw format, it plans and preprocesses by itself, its fold 0 is our
split, and it validates the way it does by default, with mirroring. All that changes is the number of steps, in the way it
documents: a trainer of its own. Every command is nnU-Net's, run in its environment; what is counted is the processor's time,
with that of all processes that a command started, since other people's work doesn't change it as it changes the clock's.
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
EPOCHS = 5  # the learning rate falls at each one's end


@dataclass
class Cost:
    """What a command took, its processes included."""

    minutes: float = 0.0
    processor_minutes: float = 0.0


def main() -> None:
    """Prints a table in Markdown, and copies the masks of the validation cases."""
    arguments = _arguments()
    if arguments.steps % EPOCHS:
        raise SystemExit(f"--steps {arguments.steps}: give a multiple of {EPOCHS}, the number of epochs")
    work, planned, trained = arguments.work.resolve(), Cost(), Cost()
    with measured(planned):
        dataset, splits = prepare(arguments.data, work, arguments.python, arguments.number, arguments.labels)
    _install_trainer(arguments.python)
    with measured(trained):
        steps = {"EPOCHS": str(EPOCHS), "ITERATIONS": str(arguments.steps // EPOCHS)}
        command = ["nnUNetv2_train", str(arguments.number), arguments.configuration, "0", "-tr", TRAINER]
        _nnunet(arguments.python, environment(work) | steps, *command, "-device", arguments.device)
    found = work / "results" / dataset / f"{TRAINER}__nnUNetPlans__{arguments.configuration}" / "fold_0" / "validation"
    arguments.masks.mkdir(parents=True, exist_ok=True)
    for case in splits["val"]:
        mask = next(found.glob(f"{case}.*"))
        shutil.copy(mask, arguments.masks / mask.name)
    dice = [values["Dice"] for values in json.loads((found / "summary.json").read_text())["mean"].values()]
    print("\n| data | network | steps | Dice | planning, min | training and validation, min | processor min | peak, GiB |")
    print("| --- | --- | ---: | --- | ---: | ---: | ---: | ---: |")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(
        f"| {arguments.data.name} | {arguments.configuration} | {arguments.steps} | {', '.join(f'{v:.3f}' for v in dice)} "
        f"| {planned.minutes:.1f} | {trained.minutes:.1f} | {trained.processor_minutes:.1f} | {peak:.1f} |"
    )


def prepare(data: Path, work: Path, python: Path, number: int, labels: list[str]) -> tuple[str, dict[str, list[str]]]:
    """Lets nnU-Net plan and preprocess, unless it did before; gives its name of the data set, and the cases of each split."""
    dataset = f"Dataset{number:03}_{data.resolve().name}"
    splits = convert(data, work / "raw" / dataset, labels)
    preprocessed = work / "preprocessed" / dataset
    if not (preprocessed / "dataset_fingerprint.json").exists():
        _nnunet(python, environment(work), "nnUNetv2_plan_and_preprocess", "-d", str(number), "-np", "1")
    (preprocessed / "splits_final.json").write_text(json.dumps([splits]))
    return dataset, splits


def convert(data: Path, raw: Path, labels: list[str]) -> dict[str, list[str]]:
    """Writes the cases in nnU-Net's raw format and gives the names of each split's cases."""
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
def measured(cost: Cost) -> Iterator[None]:
    """Adds what the commands inside take."""
    start_s, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    yield
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cost.minutes += (time.monotonic() - start_s) / 60
    cost.processor_minutes += (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 60


def environment(work: Path) -> dict[str, str]:
    """Of nnU-Net's commands: its folders, and one process beside the one that trains."""
    folders = {f"nnUNet_{name}": str(work / name) for name in ("raw", "preprocessed", "results")}
    return folders | {"nnUNet_compile": "f", "nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1"}


def _install_trainer(python: Path) -> None:
    """Beside nnU-Net's own: it looks for trainers by name in its own folder first, and imports what lies there."""
    code = "import nnunetv2.training.nnUNetTrainer as package; print(package.__path__[0])"
    found = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    shutil.copy(Path(__file__).with_name("nnunet_trainer.py"), Path(found) / f"{TRAINER}.py")


def _nnunet(python: Path, variables: dict[str, str], command: str, *arguments: str) -> None:
    subprocess.run([python, python.parent / command, *arguments], check=True, env=os.environ | variables)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--python", type=Path, required=True, help="of an environment with nnU-Net")
    parser.add_argument("--labels", nargs="+", default=["foreground"], help="names of the labels 1, 2, ..")
    parser.add_argument("--configuration", default="2d", help="2d or 3d_fullres")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--number", type=int, default=501, help="of the data set in nnU-Net's folders")
    parser.add_argument("--work", type=Path, default=Path("build/nnunet"), help="nnU-Net's folders")
    parser.add_argument("--masks", type=Path, default=Path("build/nnunet/masks"), help="where the masks go")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
