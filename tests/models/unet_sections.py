"""Sections of small U-Nets for tests: the default one, and random ones."""

from typing import Any

from hypothesis import strategies as st

from configs.network_sections import UNetSection


def small(levels: int = 3, **keys: Any) -> UNetSection:
    return UNetSection(name="unet", **{"features": (4, 6, 8, 10)[:levels], **keys})


@st.composite
def sections(
    draw: st.DrawFn, dimensions: int, *, levels: int = 3, most_stride: int = 3, most_kernel: int = 5, **keys: Any
) -> UNetSection:
    """Return a strategy for valid sections of up to that many levels; `keys` are fixed."""
    levels = draw(st.integers(2, levels))
    depths = st.integers(1, 2)
    kernels = st.tuples(*[st.sampled_from(range(1, most_kernel + 1, 2))] * dimensions)
    strides = st.tuples(*[st.integers(1, most_stride)] * dimensions)
    padding = keys.pop("padding", None) or draw(st.sampled_from(["same", "valid"]))
    return UNetSection(
        name="unet",
        features=(2, 3, 4)[:levels],
        blocks=draw(st.sampled_from(["plain", "residual"])) if padding == "same" else "plain",
        depths=draw(st.tuples(*[depths] * levels)),
        decoder_depths=draw(st.tuples(*[depths] * (levels - 1))),
        kernels=draw(st.tuples(*[kernels] * levels)),
        strides=draw(st.tuples(*[strides] * (levels - 1))),
        padding=padding,
        down=draw(st.sampled_from(["max_pool", "strided"])) if padding == "same" else "max_pool",
        up=draw(st.sampled_from(["transposed", "linear"])),
        **keys,
    )
