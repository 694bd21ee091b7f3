"""Speed of the dense sliding window compared with patch by patch, for the published N4.

Both run the same weights on the same image in one process, in turn, and their logits are compared. Patch by patch, which
includes cutting out the windows, is timed on a sample of pixels and scaled to the image. It is timed with every batch size of
BATCH_SIZES in both memory layouts, so that the table shows its best setting beside its usual one.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from configs.network_sections import SlidingWindowSection
from evaluation.comparison.measurement import describe_machine
from models.sliding_window import SlidingWindow

SIDE_PX = 512
BATCH_SIZES = (1, 8, 64, 256)
SAMPLE_PIXELS = 256
REPEATS = 5
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def main() -> None:
    """Print a table in Markdown."""
    torch.manual_seed(0)
    network = SlidingWindow(2, 1, 2, SlidingWindowSection(name="sliding_window")).eval()
    border = network.window - 1
    image = torch.nn.functional.pad(torch.randn(1, 1, SIDE_PX, SIDE_PX), (border // 2,) * 4, mode="reflect")
    pixels = torch.randint(0, SIDE_PX, (SAMPLE_PIXELS, 2)).tolist()
    ran_on = describe_machine(torch.device("cpu"))
    print(
        f"{ran_on.processor}, {ran_on.cores} cores, {ran_on.threads} threads, torch {ran_on.versions['torch']}, float32; ",
        end="",
    )
    print(f"N4, window 95, {SIDE_PX} x {SIDE_PX} pixels, median of {REPEATS}\n")
    print("| layout | batch | patch by patch, s (scaled) | dense, s | times as fast | largest difference of logits |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with torch.inference_mode():
        for name, layout in LAYOUTS.items():
            network.to(memory_format=layout)
            for batch_size in BATCH_SIZES:
                print(f"| {name} | {batch_size} | {row(network, image.contiguous(memory_format=layout), pixels, batch_size)} |")


def row(network: SlidingWindow, image: Tensor, pixels: list[list[int]], batch_size: int) -> str:
    """Time both methods in turn, compare their logits, and return a row of the table."""
    dense, sampled = (lambda: network.dense(image)), (lambda: patch_by_patch(network, image, pixels, batch_size))
    dense_s, sample_s = paired(dense, sampled)
    rows, columns = zip(*pixels, strict=True)
    difference = (dense()[0, :, rows, columns] - sampled()).abs().max()
    scaled_s = sample_s * SIDE_PX**2 / len(pixels)
    return f"{scaled_s:.0f} | {dense_s:.2f} | {scaled_s / dense_s:.0f} | {difference:.1e}"


def patch_by_patch(network: SlidingWindow, image: Tensor, pixels: list[list[int]], batch_size: int) -> Tensor:
    """Return the logits (K, n) of n pixels, each from its own window."""
    side = network.window
    last = network.hidden.weight.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    logits = []
    for start in range(0, len(pixels), batch_size):
        batch = pixels[start : start + batch_size]
        windows = torch.stack([image[0, :, row : row + side, column : column + side] for row, column in batch])
        logits.append(network(windows.contiguous(memory_format=layout)))
    return torch.cat(logits).T


def paired(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """Return the median seconds of both functions, called in turn; the first call of each is left out."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in range(REPEATS + 1):
        for function, durations in zip((first, second), seconds, strict=True):
            start_s = time.perf_counter()
            function()
            if repeat:
                durations.append(time.perf_counter() - start_s)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


if __name__ == "__main__":
    main()
