"""Choose the window, the convolutions and the batch of a sliding-window network, by the size of objects and the memory."""

from typing import Any

from training.planning.budget import Budget, config_with
from training.planning.data_choices import Choice, Choices, DatasetSummary
from training.planning.step_memory import training_bytes

OBJECT_SIDES = 3  # sides of an object per window: the object, and as much around it on each side
WINDOWS = {2: (15, 65), 3: (11, 25)}  # smallest and largest side; a step's work grows with the window's area or volume
WINDOW_BATCHES = {2: (256, 128, 64, 32), 3: (96, 48, 24)}
WINDOW_FEATURES = {2: (32, 32, 48), 3: (24, 32, 48)}  # of each convolution; the last for all deeper ones


def choose_window(summary: DatasetSummary, values: dict[str, Any], budget: Budget) -> Choices:
    """Choose window, convolutions and batch: OBJECT_SIDES objects wide, narrower where that doesn't fit in memory.

    Raises:
        ConfigError: not even the smallest window fits.
    """
    smallest, largest = WINDOWS[summary.dimensions]
    sides = summary.object_px or (smallest,)
    sides_text = f" ({' x '.join(f'{side:.3g}' for side in sides)} px)" if summary.object_px else ""
    reason = f"{OBJECT_SIDES} times the median object side{sides_text}, odd, from {smallest} to {largest}"
    width = OBJECT_SIDES * sum(sides) / len(sides)
    step_bytes = 0
    for window in range(min(max(2 * round(width / 2 - 0.5) + 1, smallest), largest), smallest - 1, -2):
        for batch in WINDOW_BATCHES[summary.dimensions]:
            choices = {
                "model.window": Choice(window, reason),
                "model.convolutions": Choice(
                    window_convolutions(window, summary.dimensions),
                    "kernels that leave 1 to 3 pixels of the window and drop no pixel at a pooling layer",
                ),
                "model.pool": Choice(2),
                "trainer.batch_size": Choice(batch),
            }
            step_bytes = training_bytes(config_with(values, choices), budget.device)
            if step_bytes <= budget.memory_bytes:
                return {**choices, "trainer.batch_size": Choice(batch, f"a step takes {budget.usage(step_bytes)}")}
    raise budget.too_small(step_bytes)


def window_convolutions(window: int, dimensions: int) -> list[dict[str, int]]:
    """Return convolutions, each followed by a max-pool of 2, that drop no pixel at a pool and leave 1 to 3 of the window."""
    features = WINDOW_FEATURES[dimensions]
    convolutions: list[dict[str, int]] = []
    while window > 3:
        kernel = 4 if window % 2 else 3
        convolutions.append({"features": features[min(len(convolutions), len(features) - 1)], "kernel": kernel})
        window = (window - kernel + 1) // 2
    return convolutions
