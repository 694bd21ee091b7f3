"""Training speed and memory of Overtile, nnU-Net, MONAI and a minimal loop written by hand.

    PYTHONPATH=. .venv/bin/python benchmarks/training_speed.py DATA --nnunet-python NNUNET/bin/python
    PYTHONPATH=. .venv/bin/python benchmarks/training_speed.py DATA --switches

DATA is a data set whose cases.csv has a split. All train the same network (plain U-Net, instance norm, leaky ReLU, strided
convolutions down, transposed up, no deep supervision) with the same patch and batch, Dice + cross-entropy, Nesterov SGD and
clipping. nnU-Net builds the network from its plans; its convolutions have biases, which have no effect before instance norm.
With augmentation, Overtile and MONAI use the same transforms (see augmentation.py), and nnU-Net its own. On CUDA all run in
bfloat16 except nnU-Net, which runs in float16; on a CPU all run in float32, and Overtile also in its default precision.

Each contender is a separate process. They take turns, so that other work of the machine slows all of them alike. Memory is
measured in further processes, in which every freed tensor is returned to the system at once: it is the rise since the imports,
with the data. `--switches` compares variants of the loop by hand that differ in one setting.

nnU-Net (`pip install torch==2.13.0 nnunetv2==2.8.1` in a separate environment) is left out without `--nnunet-python`.
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
from turns import FREE_AT_ONCE, TurnProcess

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
Turn = tuple[float, float]  # seconds per step, and processor seconds per step


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
        contenders = loop_variants(spec) if arguments.switches else all_contenders(spec, arguments)
        memory = {name: peak_bytes(name, *contender, Path(logs)) for name, contender in contenders.items()}
        turns = take_turns(contenders, arguments.steps, arguments.turns, Path(logs))
    _print_table(turns, memory, next(iter(contenders)))


def make_spec(arguments: argparse.Namespace) -> Spec:
    """Return the settings of all contenders."""
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


def all_contenders(spec: Spec, arguments: argparse.Namespace) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Return the command and environment of each contender, without and with augmentation. The first is the base."""
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
            peer_spec = spec | {"augment": augment}
            name = f"{peer}, augmented" if augment else peer
            if peer == "nnU-Net":
                command = [str(arguments.nnunet_python), str(HERE / "training_nnunet.py"), json.dumps(peer_spec)]
                contenders[name] = (command, variables)
            else:
                contenders[name] = _loop(peer, peer_spec)
    contenders["Overtile, augmented, default precision"] = _loop("Overtile", spec | {"augment": True, "trainer": {}})
    return contenders


def loop_variants(spec: Spec) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Return the command and environment of each variant of the loop by hand."""
    return {name: _loop(BY_HAND, spec | settings) for name, settings in SWITCHES.items()}


def peak_bytes(name: str, command: list[str], environment: dict[str, str], logs: Path) -> int:
    """Return the peak memory of a few steps in a separate process."""
    contender = TurnProcess(command, environment | FREE_AT_ONCE, logs / f"{name} memory.txt")
    try:
        return int(contender.turn(4)["peak_bytes"])
    finally:
        contender.close()


def take_turns(
    contenders: dict[str, tuple[list[str], dict[str, str]]], steps: int, turns: int, logs: Path
) -> dict[str, list[Turn]]:
    """Return every contender's turns. The order alternates, and a first turn is left out."""
    results: dict[str, list[Turn]] = {name: [] for name in contenders}
    running = {name: TurnProcess(*contender, logs / f"{name}.txt") for name, contender in contenders.items()}
    try:
        for turn in range(turns + 1):
            for name in running if turn % 2 else reversed(running):
                cost = running[name].turn(steps if turn else 2)
                if turn:
                    results[name].append((cost["seconds"] / steps, cost["processor_seconds"] / steps))
    finally:
        for contender in running.values():
            contender.close()
    return results


def _print_table(results: dict[str, list[Turn]], memory: dict[str, int], first: str) -> None:
    print(f"| | steps/s | times {first} | processor s per step | times {first} | memory, MiB | times {first} |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, turns in results.items():
        seconds, processor_seconds = (statistics.median(column) for column in zip(*turns, strict=True))
        times, processor_times = (
            statistics.median(own[column] / other[column] for own, other in zip(turns, results[first], strict=True))
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
    parser.add_argument("--workers", type=int, default=0, help="processes that cut patches beside the main one")
    parser.add_argument("--steps", type=int, default=10, help="steps per turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--switches", action="store_true", help="compare variants of the loop by hand")
    parser.add_argument("--nnunet-python", type=Path, help="Python of an environment with nnU-Net")
    parser.add_argument("--number", type=int, default=501, help="number of the data set in nnU-Net's folders")
    parser.add_argument("--work", type=Path, default=Path("build/nnunet"), help="nnU-Net's folders")
    return parser.parse_args()


if __name__ == "__main__":
    main()
