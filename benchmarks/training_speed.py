"""Training steps a second and memory: Overtile's whole path beside nnU-Net's, MONAI's and a loop written by hand.

    PYTHONPATH=. .venv/bin/python benchmarks/training_speed.py DATA --nnunet-python NNUNET/bin/python
    PYTHONPATH=. .venv/bin/python benchmarks/training_speed.py DATA --switches

DATA holds cases.csv with a split. All have an equal network (plain U-Net, instance norm, leaky ReLU, strided convolutions on
the way down, transposed on the way up, no deep supervision), equal patch and batch, Dice + cross-entropy, Nesterov SGD and
clipping. nnU-Net builds the network by its plans; its convolutions have biases, which instance norm makes useless. "With
augmentation" Overtile and MONAI do the same (see augmentation.py) and nnU-Net does its own. On CUDA all run in bfloat16
except nnU-Net, which takes its own float16; on a CPU all run in float32, and Overtile once more in what it takes by itself.

Each contender lives in a process of its own and waits; the turns go around, so that what else happens at the machine meets them
all. Memory is taken in further processes, in which every freed tensor is given back to the system at once: the rise over what
the imports take, data included. With `--switches` it is the loop by hand, with one thing turned at a time.

nnU-Net (`pip install torch==2.13.0 nnunetv2==2.8.1` in an environment of your own) is left out without `--nnunet-python`.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import nnunet
import torch
from turns import ONE_BY_ONE, Contender

from evaluation.comparison.measurement import describe_machine
from inference.predictors.predictor import best_device

HERE = Path(__file__).parent
SETTINGS = {2: {"patch": [256, 256], "batch": 4}, 3: {"patch": [40, 56, 40], "batch": 2}}
BY_HAND = "by hand"
SWITCHES: dict[str, dict[str, Any]] = {
    "float32, channels last": {},
    "contiguous": {"switches": {"channels_last": False}},
    "bfloat16": {"switches": {"bfloat16": True}},
    "torch.compile": {"switches": {"compile": True}},
    "fused optimizer": {"switches": {"fused": True}},
    "one thread": {"threads": 1},
    "bfloat16, torch.compile, fused": {"switches": {"bfloat16": True, "compile": True, "fused": True}},
}
Spec = dict[str, Any]
Turn = tuple[float, float]  # seconds a step, and seconds of the processor


def main() -> None:
    """Print a table in Markdown."""
    arguments = _arguments()
    spec = make_spec(arguments)
    ran_on = describe_machine()
    print(f"{ran_on.processor}, {ran_on.cores} cores, {ran_on.threads} threads, {ran_on.device}, torch {torch.__version__};")
    print(
        f"{len(spec['patch'])}D, patch {spec['patch']}, batch {spec['batch']}, features {spec['features']}, "
        f"{spec['workers']} workers;"
    )
    print(f"medians of {arguments.turns} turns of {arguments.steps} steps\n")
    with tempfile.TemporaryDirectory() as logs:
        contenders = switched(spec) if arguments.switches else compared(spec, arguments)
        memory = {name: peak_bytes(name, *contender, Path(logs)) for name, contender in contenders.items()}
        turned = paired(contenders, arguments.steps, arguments.turns, Path(logs))
    _print_table(turned, memory, next(iter(contenders)))


def make_spec(arguments: argparse.Namespace) -> Spec:
    """What all contenders are told."""
    return (
        {
            "data": str(arguments.data.resolve()),
            **SETTINGS[arguments.dimensions],
            "features": arguments.features,
            "classes": len(arguments.labels) + 1,
            "augment": False,
            "device": best_device().type,
            "workers": arguments.workers,
            "threads": 0,
            "switches": {},
            "model": {"down": "strided", "activation": "leaky_relu"},
            "optimizer": {"name": "sgd", "learning_rate": 0.01, "weight_decay": 3e-5, "momentum": 0.99, "clip_norm": 12},
            "trainer": {"precision": "float32" if best_device().type == "cpu" else "auto"},
        }
        | ({"patch": arguments.patch} if arguments.patch else {})
        | ({"batch": arguments.batch} if arguments.batch else {})
    )


def compared(spec: Spec, arguments: argparse.Namespace) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Command and environment of each contender, without and with augmentation; the first is what others are compared with."""
    contenders = {BY_HAND: _loop(BY_HAND, spec)}
    peers = ["Overtile", "MONAI"]
    if arguments.nnunet_python:
        work = arguments.work.resolve()
        dataset, _ = nnunet.prepare(arguments.data, work, arguments.nnunet_python, arguments.number, arguments.labels)
        variables = nnunet.environment(work) | {"nnUNet_n_proc_DA": str(spec["workers"])}
        spec = spec | {"nnunet_preprocessed": str(work / "preprocessed" / dataset)}
        peers.append("nnU-Net")
    for augment in (False, True):
        for peer in peers:
            told = spec | {"augment": augment}
            name = f"{peer}, augmented" if augment else peer
            if peer == "nnU-Net":
                command = [str(arguments.nnunet_python), str(HERE / "training_nnunet.py"), json.dumps(told)]
                contenders[name] = (command, variables)
            else:
                contenders[name] = _loop(peer, told)
    contenders["Overtile, augmented, as it comes"] = _loop("Overtile", spec | {"augment": True, "trainer": {}})
    return contenders


def switched(spec: Spec) -> dict[str, tuple[list[str], dict[str, str]]]:
    """The loop by hand, with one thing turned at a time."""
    return {name: _loop(BY_HAND, spec | turned) for name, turned in SWITCHES.items()}


def peak_bytes(name: str, command: list[str], environment: dict[str, str], logs: Path) -> int:
    """Of a few steps in a process of its own."""
    contender = Contender(command, environment | ONE_BY_ONE, logs / f"{name} memory.txt")
    try:
        return int(contender.turn(4)["peak_bytes"])
    finally:
        contender.close()


def paired(
    contenders: dict[str, tuple[list[str], dict[str, str]]], steps: int, turns: int, logs: Path
) -> dict[str, list[Turn]]:
    """Every turn of each; the order is turned around each time, and a first turn isn't counted."""
    turned: dict[str, list[Turn]] = {name: [] for name in contenders}
    running = {name: Contender(*contender, logs / f"{name}.txt") for name, contender in contenders.items()}
    try:
        for turn in range(turns + 1):
            for name in running if turn % 2 else reversed(running):
                taken = running[name].turn(steps if turn else 2)
                if turn:
                    turned[name].append((taken["seconds"] / steps, taken["processor_seconds"] / steps))
    finally:
        for contender in running.values():
            contender.close()
    return turned


def _print_table(turned: dict[str, list[Turn]], memory: dict[str, int], first: str) -> None:
    print(f"| | steps/s | times {first} | processor s a step | times {first} | memory, MiB | times {first} |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, turns in turned.items():
        seconds, processor_seconds = (statistics.median(column) for column in zip(*turns, strict=True))
        times, processor_times = (
            statistics.median(own[column] / other[column] for own, other in zip(turns, turned[first], strict=True))
            for column in (0, 1)
        )
        print(
            f"| {name} | {1 / seconds:.2f} | {1 / times:.2f} | {processor_seconds:.2f} | {processor_times:.2f} "
            f"| {memory[name] / 2**20:.0f} | {memory[name] / memory[first]:.2f} |"
        )


def _loop(name: str, spec: Spec) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, str(HERE / "training_loops.py"), name, json.dumps(spec)], {}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--dimensions", type=int, choices=(2, 3), default=3)
    parser.add_argument("--features", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--patch", type=int, nargs="+")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--labels", nargs="+", default=["anterior", "posterior"], help="names of the labels 1, 2, ..")
    parser.add_argument("--workers", type=int, default=0, help="processes that cut patches besides the main one")
    parser.add_argument("--steps", type=int, default=10, help="a turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--switches", action="store_true", help="one thing turned at a time, instead of the comparison")
    parser.add_argument("--nnunet-python", type=Path, help="of an environment with nnU-Net")
    parser.add_argument("--number", type=int, default=501, help="of the data set in nnU-Net's folders")
    parser.add_argument("--work", type=Path, default=Path("build/nnunet"), help="nnU-Net's folders")
    return parser.parse_args()


if __name__ == "__main__":
    main()
