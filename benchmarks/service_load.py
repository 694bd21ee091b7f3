"""Load tests of the service: small calls beside a huge job, many clients, uploads of gigabytes, and its overhead.

    PYTHONPATH=.:tests/service:tests/faults .venv/bin/python benchmarks/service_load.py [NAME ...]

A bundle with random weights is packaged and served by separate processes, over sockets on loopback; the clients share the
machine with the server. Each test prints a table, and whether its limits hold; the exit code is 1 if one doesn't.

`latency`: images of 512 x 512 one after the other, on the idle server (half before, half after) and while a long job runs; and
the tiles per second of the job alone and beside these calls, in turns. `flood`: the same calls while the clients of another key
send as many as they can. `clients`: half of the server's capacity, by clients that keep their connections. `upload`: a file by
tus, by PUT, and by tus with a connection that is cut at random bytes. `overhead`: a volume over HTTP beside the same call of
`inference.predict`, which `overtile predict` runs.
"""

import argparse
import random
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import torch
from kill_cycles import Service
from load import (
    MIB,
    Calls,
    Drift,
    Generated,
    closed_loop,
    flood_with_calls,
    open_loop,
    peak_bytes,
    processes_of,
    reset_peak,
    sample_states,
    state_of,
    upload_at_once,
    upload_in_pieces,
    upload_with_cuts,
    watch_readiness,
)
from served import random_bundle, served
from servers import png, wait_until
from service_overhead import overhead
from tifffile import TiffWriter

from evaluation.comparison.measurement import describe_machine
from service.keys import Keys

CONFIG, FEATURES, MODEL = "histology_unet", "model.features=[16,32,64,128,256]", "benchmark"
EVERY_S = 1.5  # interval of small calls
ROUNDS = 4  # of the job alone and then beside small calls
WARM_UPS = 4
MOST_SLOWER, LEAST_REMAINING_SHARE = 2.0, 0.8
MOST_MEMORY_GROWTH, MOST_NEW_THREADS = 0.05, 2
MOST_GROWTH_BYTES, MOST_READY_S = 150 * MIB, 0.1
PIECE_BYTES, CUTS = 16 * MIB, 20

Options = argparse.Namespace


def main() -> None:
    """Run all load tests, or those that are named."""
    options = arguments()
    ran_on = describe_machine(torch.device("cpu"))
    versions = ", ".join(f"{name} {version}" for name, version in ran_on.versions.items())
    print(f"{ran_on.processor}, {ran_on.cores} cores, {ran_on.threads} threads, {versions}")
    tests: dict[str, Callable[[Options, Path], bool]] = {
        "latency": latency, "flood": flood, "clients": clients, "upload": upload, "overhead": overhead,
    }  # fmt: skip
    results = []
    for name in options.names or tests:
        print(f"\n{name}\n", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            results.append(tests[name](options, Path(folder)))
        print(f"\n{name}: the limits {'hold' if results[-1] else 'DO NOT HOLD'}", flush=True)
    sys.exit(0 if all(results) else 1)


def arguments() -> Options:
    """Return the options of the command line; the defaults are those of the figures in README.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", choices=["latency", "flood", "clients", "upload", "overhead", []], help="by default all"
    )
    parser.add_argument("--calls", type=int, default=40, help="small calls of latency and flood")
    parser.add_argument("--side", type=int, default=16_000, help="side of the huge job's image in pixels")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=180, help="duration of clients")
    parser.add_argument("--upload-mib", type=int, default=2048)
    parser.add_argument("--voxels", type=int, default=272, help="side of overhead's volume")
    parser.add_argument("--repeats", type=int, default=3, help="repeats of overhead")
    return parser.parse_args()


def latency(options: Options, folder: Path) -> bool:
    """Measure small calls beside a huge job, and the job beside small calls."""
    picture = [png(np.random.default_rng(0).integers(0, 256, (3, 512, 512), np.uint8))]
    with served(folder, random_bundle(folder / "bundle", CONFIG, FEATURES)) as service:
        _paced(service, picture, WARM_UPS)
        idle = _paced(service, picture, options.calls // 2)
        job = _start_job(service, huge(folder / "huge.tiff", options.side))
        loaded, alone, beside = Calls(), [], []
        for _ in range(ROUNDS):
            count = max(1, options.calls // ROUNDS)
            alone.append(_tiles_per_s(service, lambda count=count: time.sleep(count * EVERY_S)))
            beside.append(_tiles_per_s(service, lambda count=count: _add(loaded, _paced(service, picture, count))))
        _end_job(service, job, options.side)
        _add(idle, _paced(service, picture, options.calls - options.calls // 2))
    return _report_latency(idle, loaded, alone, beside)


def _report_latency(idle: Calls, loaded: Calls, alone: list[float], beside: list[float]) -> bool:
    """Print the table, and return whether the limits hold."""
    remaining_share = float(np.median([one / other for one, other in zip(beside, alone, strict=True)]))
    slower = [quantile(loaded, q) / quantile(idle, q) for q in (0.5, 0.95)]
    print("| | calls | p50, ms | p95, ms | the job, tiles/s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    print(f"| idle server | {_milliseconds(idle)} | |")
    print(f"| the job alone | | | | {np.median(alone):.2f} |")
    print(f"| beside each other | {_milliseconds(loaded)} | {np.median(beside):.2f} |")
    print(f"| times, share left | | {slower[0]:.2f} | {slower[1]:.2f} | {remaining_share:.0%} |")
    return not (idle.errors or loaded.errors) and slower[1] <= MOST_SLOWER and remaining_share >= LEAST_REMAINING_SHARE


def _milliseconds(calls: Calls) -> str:
    return f"{len(calls.seconds)} | {1e3 * quantile(calls, 0.5):.0f} | {1e3 * quantile(calls, 0.95):.0f}"


def quantile(calls: Calls, share: float) -> float:
    """Return a quantile of the calls' seconds."""
    return float(np.quantile(calls.seconds, share))


def _paced(service: Service, pictures: list[bytes], count: int, key: str | None = None) -> Calls:
    return open_loop(service.url, pictures, MODEL, clients=1, rate=1 / EVERY_S, seconds=count * EVERY_S, key=key)


def _add(calls: Calls, more: Calls) -> None:
    calls.seconds += more.seconds
    calls.errors += more.errors


def huge(path: Path, side: int) -> Path:
    """Write a tiled RGB TIFF (side, side, 3) of eight tiles of noise that repeat."""
    rng = np.random.default_rng(1)
    coarse = [rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(8)]
    tiles = [zlib.compress(each.repeat(8, 0).repeat(8, 1).tobytes()) for each in coarse]

    def every() -> Iterator[bytes]:
        for number in range((-(-side // 512)) ** 2):
            yield tiles[number * 5 % 8]

    with TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(every(), shape=(side, side, 3), dtype=np.uint8, tile=(512, 512), photometric="rgb", compression="zlib")
    return path


def _start_job(service: Service, image: Path) -> str:
    """Start a job, wait until it segments tiles, and return its address."""
    with httpx.Client(base_url=service.url, timeout=600) as client, image.open("rb") as file:
        upload = client.put("/v1/uploads", content=file).json()["id"]
        job = client.post("/v1/jobs", json={"uploads": [upload], "models": [MODEL]})
        job.raise_for_status()
        wait_until(lambda: tiles_done(client) > 2 * WARM_UPS, timeout_s=300)
    return str(job.headers["location"])


def tiles_done(client: httpx.Client) -> float:
    """Return the number of tiles of all jobs since the server's start."""
    lines = client.get("/metrics").text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("overtile_tiles_total ")))


def _tiles_per_s(service: Service, meanwhile: Callable[[], None]) -> float:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        before, start_s = tiles_done(client), time.monotonic()
        meanwhile()
        return (tiles_done(client) - before) / (time.monotonic() - start_s)


def _end_job(service: Service, job: str, side: int) -> None:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        if client.get(job).json()["state"] != "running":
            raise SystemExit(f"the job of {side} x {side} pixels ended before the last call; choose a larger --side")
        client.delete(job)
        wait_until(lambda: client.get(job).json()["state"] == "cancelled", timeout_s=120)


def flood(options: Options, folder: Path) -> bool:
    """Measure small calls of one key while the clients of another send as many as they can."""
    picture = [png(np.random.default_rng(0).integers(0, 256, (3, 512, 512), np.uint8))]
    with served(folder, random_bundle(folder / "bundle", CONFIG, FEATURES)) as service:
        keys = Keys(service.folder / "store" / "keys.json")
        (_, one), (_, other) = keys.add("one"), keys.add("other")
        wait_until(lambda: httpx.get(f"{service.url}/v1/models").status_code == 401, timeout_s=10)  # keys were read
        _paced(service, picture, WARM_UPS, one)
        idle = _paced(service, picture, options.calls // 2, one)
        with flood_with_calls(service.url, picture, MODEL, clients=options.clients, key=other) as other_calls:
            beside = _paced(service, picture, options.calls, one)
        _add(idle, _paced(service, picture, options.calls - options.calls // 2, one))
    slower = [quantile(beside, q) / quantile(idle, q) for q in (0.5, 0.99)]
    print(f"{options.clients} clients of another key: {len(other_calls.seconds)} answered, {len(other_calls.errors)} refused\n")
    print("| | calls | errors | p50, ms | p99, ms |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, calls in (("idle server", idle), ("beside them", beside)):
        middle, slow = (1e3 * quantile(calls, q) for q in (0.5, 0.99))
        print(f"| {name} | {len(calls.seconds)} | {len(calls.errors)} | {middle:.0f} | {slow:.0f} |")
    print(f"| times | | | {slower[0]:.2f} | {slower[1]:.2f} |")
    return not (idle.errors or beside.errors) and slower[1] <= MOST_SLOWER


def clients(options: Options, folder: Path) -> bool:
    """Run half of the server's capacity for minutes, and check that there is no error and that nothing grows."""
    rng = np.random.default_rng(2)
    pictures = [png(rng.integers(0, 256, (3, 128, 128), np.uint8)) for _ in range(8)]
    with served(folder, random_bundle(folder / "bundle", CONFIG, FEATURES)) as service:
        _paced(service, pictures, WARM_UPS)
        capacity = closed_loop(service.url, pictures, MODEL, clients=4, seconds=min(20, options.seconds))
        with sample_states(service) as states:
            calls = open_loop(service.url, pictures, MODEL, clients=options.clients, rate=capacity / 2, seconds=options.seconds)
    print(f"{options.clients} clients, {capacity / 2:.1f} calls/s for {options.seconds:.0f} s, half of {capacity:.1f}: "
          f"{len(calls.seconds)} answered, {len(calls.errors)} errors; "
          f"p50 {1e3 * quantile(calls, 0.5):.0f} ms, p99 {1e3 * quantile(calls, 0.99):.0f} ms\n")  # fmt: skip
    for error in sorted(set(calls.errors))[:5]:
        print(f"    {error}")
    drifts = {role: Drift.of(samples) for role, samples in states.items()}
    return not calls.errors and _report_drifts(drifts)


def _report_drifts(drifts: dict[str, Drift]) -> bool:
    """Print the table, and return whether nothing has grown beyond its limit."""
    print("| process | memory, MiB | growth | descriptors | growth | threads | growth |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for role, each in drifts.items():
        print(f"| {role} | {each.first.resident_bytes / MIB:.0f} | {each.memory:+.1%} | {each.first.descriptors} | "
              f"{each.descriptors:+.0f} | {each.first.threads} | {each.threads:+.0f} |")  # fmt: skip
    return all(
        each.memory <= MOST_MEMORY_GROWTH and each.descriptors <= 0 and abs(each.threads) <= MOST_NEW_THREADS
        for each in drifts.values()
    )


def upload(options: Options, folder: Path) -> bool:
    """Upload a large file in three ways; measure the gateway's memory and the latency of other requests."""
    file, rng = Generated(options.upload_mib * MIB), random.Random(0)  # noqa: S311
    expected = file.sha256()
    ways: dict[str, Callable[[httpx.Client], str]] = {
        f"tus, {PIECE_BYTES // MIB} MiB each": lambda client: upload_in_pieces(client, file, PIECE_BYTES),
        "PUT": lambda client: upload_at_once(client, file),
        f"tus, cut {CUTS} times": lambda client: upload_with_cuts(client, file, _cuts(rng, file.size)),
    }
    results = []
    with served(folder, random_bundle(folder / "bundle", CONFIG, FEATURES)) as service:
        print(f"{options.upload_mib} MiB each; /readyz every 20 ms\n")
        print("| way | s | rise of the gateway's memory, MiB | /readyz | p99, ms | most, ms | SHA-256 |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
        for name, send in ways.items():
            results.append(_report_upload(service, name, send, expected))
    return all(results)


def _cuts(rng: random.Random, size: int) -> list[int]:
    return [rng.randrange(1, size) for _ in range(CUTS)]


def _report_upload(service: Service, name: str, send: Callable[[httpx.Client], str], expected: str) -> bool:
    """Upload the file in one way, print a row, and return whether the limits hold."""
    gateway = processes_of(service)["gateway"]
    reset_peak(gateway)
    before, start_s = state_of(gateway).resident_bytes, time.monotonic()
    with httpx.Client(base_url=service.url, timeout=600) as client:
        with watch_readiness(service.url) as ready:
            place = send(client)
        seconds, rise_bytes = time.monotonic() - start_s, peak_bytes(gateway) - before
        same = client.get(place).json()["sha256"] == expected
        client.delete(place)
    most = max(ready.seconds)
    print(f"| {name} | {seconds:.1f} | {rise_bytes / MIB:.0f} | {len(ready.seconds)} | {1e3 * quantile(ready, 0.99):.0f} | "
          f"{1e3 * most:.0f} | {'equal' if same else 'DIFFERENT'} |", flush=True)  # fmt: skip
    return same and rise_bytes <= MOST_GROWTH_BYTES and most < MOST_READY_S and not ready.errors


if __name__ == "__main__":
    main()
