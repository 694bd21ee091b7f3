"""Section `inference` of the config: tiling, runtime, and the objects of a mask."""

from typing import Annotated, Literal

from pydantic import Field

from configs.sections import PositiveFloat, PositiveInt, Section, Share

Average = Literal["none", "flips", "flips_and_turns"]


class InferenceSection(Section):
    """Tiling of images, the runtime of the network, and the objects of a mask.

    `tile_size` is the largest input of the network, and `overlap` the fraction of a tile that is blended with the next.
    Left out, `tile_size` is 512 pixels per axis in 2D and 96 in 3D while a network trains. In inference, if tiles of any
    size give exactly the same logits, it is the size that costs the network the least within `memory_bytes`. That is the
    memory of the whole process; left out, it is what the process already uses plus a quarter of the free memory.

    `average` is over the logits of a tile's mirror images, or of its mirror images and quarter turns. `runtime`
    executes the network: torch in float32, a runtime by name, or `auto`, the fastest runtime whose output matches float32
    torch (torch itself if the network is so small that testing the others takes longer than it saves).

    `objects` is the way in which numbered objects are found: the mask's connected components, those divided at narrow
    places by a watershed whose distances are smoothed by `object_sigma_px`, or the peaks of a class's probability, of which
    the highest within `peak_radius_um` remains if it reaches `peak_threshold`. Before that the mask is opened with a disc or
    a ball of `opening_radius_px`, and background that a piece encloses is filled up to `largest_hole_px` pixels; after it
    objects of fewer than `smallest_object_px` pixels are left out.
    """

    tile_size: tuple[PositiveInt, ...] | None = None
    memory_bytes: PositiveInt | None = None
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    batch_size: PositiveInt = 1
    average: Average = "none"
    runtime: Literal["auto", "torch", "torch_bfloat16", "compile", "graphs", "openvino", "openvino_bfloat16", "onnxruntime"] = (
        "auto"
    )
    objects: Literal["components", "watershed", "peaks"] = "components"
    object_sigma_px: Annotated[float, Field(ge=0)] = 4.0
    smallest_object_px: Annotated[int, Field(ge=0)] = 0
    largest_hole_px: Annotated[int, Field(ge=0)] = 0
    opening_radius_px: Annotated[int, Field(ge=0, le=100)] = 0
    peak_radius_um: PositiveFloat | None = None
    peak_threshold: Share = 0.5
