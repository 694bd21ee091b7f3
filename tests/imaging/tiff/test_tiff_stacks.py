"""Z stacks: OME-TIFF and ImageJ, in pages or in one piece, with channels, as volumes."""

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from imaging.errors import UnsuitableImage
from imaging.guards import UPLOAD
from imaging.open import open_image

RANDOM = np.random.default_rng(1)
OME = {"ome": True, "photometric": "minisblack"}
STACKS = {  # axes as stored, sizes, options
    "ome": ("ZYX", (5, 33, 20), {**OME, "compression": "zlib"}),
    "ome in one piece": ("ZYX", (5, 33, 20), OME),
    "ome channels first": ("CZYX", (2, 5, 33, 20), {**OME, "compression": "zlib"}),
    "ome slices first": ("ZCYX", (5, 2, 33, 20), {**OME, "tile": (16, 16)}),
    "ome slices first in one piece": ("ZCYX", (5, 2, 33, 20), OME),
    "ome colours": ("ZYXS", (5, 33, 20, 3), {"ome": True, "photometric": "rgb", "tile": (16, 16)}),
    "ome one time point": ("TZYX", (1, 5, 33, 20), OME),
    "imagej": ("ZYX", (5, 33, 20), {"imagej": True}),
    "imagej channels": ("ZCYX", (5, 2, 33, 20), {"imagej": True}),
    "imagej deflated": ("ZCYX", (5, 2, 33, 20), {"imagej": True, "compression": "zlib"}),
    "imagej colours": ("ZYXS", (5, 33, 20, 3), {"imagej": True}),
    "axes in the description": ("ZYX", (5, 33, 20), {"photometric": "minisblack", "compression": "zlib"}),
}


def turned(array, axes):
    """(C, D, H, W)."""
    kept = [axis for axis in axes if axis != "T"]
    array = array.reshape([size for size, axis in zip(array.shape, axes, strict=True) if axis != "T"])
    channel = next((axis for axis in kept if axis in "CS"), None)
    order = [kept.index(axis) for axis in ([channel] if channel else []) + ["Z", "Y", "X"]]
    return array.transpose(order) if channel else array.transpose(order)[None]


@pytest.fixture(scope="module", params=STACKS)
def stack(request, tmp_path_factory):
    axes, sizes, options = STACKS[request.param]
    array = RANDOM.integers(0, 250, sizes).astype(np.uint8 if "S" in axes else np.uint16)
    path = tmp_path_factory.mktemp("stack") / "stack.tif"
    tifffile.imwrite(path, array, metadata={"axes": axes}, **options)
    return path, turned(array, axes)


@given(data=st.data())
def test_a_region_is_a_part_of_the_whole(data, stack):
    path, array = stack
    starts = [data.draw(st.integers(0, size - 1)) for size in (5, 33, 20)]
    region = tuple(
        slice(start, data.draw(st.integers(start + 1, size))) for start, size in zip(starts, (5, 33, 20), strict=True)
    )
    with open_image(path) as source:
        assert (source.shape, source.channels, source.dtype) == ((5, 33, 20), len(array), array.dtype)
        np.testing.assert_array_equal(source.read(region), array[(slice(None), *region)])


def test_a_process_of_its_own_reads_the_same(stack):
    with open_image(stack[0], guards=UPLOAD) as source:
        np.testing.assert_array_equal(np.concatenate(list(source.blocks(4000)), axis=1), stack[1])
        assert source.mask_format == "tiff"


def test_a_stacks_pyramid_keeps_its_slices(tmp_path):
    array = RANDOM.integers(0, 9999, (3, 64, 48)).astype(np.uint16)
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}
    with tifffile.TiffWriter(tmp_path / "i.tif", ome=True) as tiff:
        tiff.write(array, subifds=1, tile=(16, 16), photometric="minisblack", metadata={"axes": "ZYX", **sizes})
        tiff.write(array[:, ::2, ::2], subfiletype=1, tile=(16, 16), photometric="minisblack")
    with open_image(tmp_path / "i.tif") as source:
        assert [level.shape for level in source.levels] == [(3, 64, 48), (3, 32, 24)]
        assert [level.spacing_um for level in source.levels] == [(2.0, 0.25, 0.5), (2.0, 0.5, 1.0)]
        region = slice(1, 3), slice(3, 30), slice(0, 20)
        np.testing.assert_array_equal(source.read(region, 1), array[None, 1:3, 6:60:2, 0:40:2])


@pytest.mark.parametrize(
    ("options", "spacing"),
    [
        ({"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}}, None),
        (
            {
                "ome": True,
                "metadata": {
                    "axes": "ZYX",
                    "PhysicalSizeX": 0.5,
                    "PhysicalSizeY": 0.25,
                    "PhysicalSizeZ": 300,
                    "PhysicalSizeZUnit": "nm",
                },
            },
            (0.3, 0.25, 0.5),
        ),
        ({"imagej": True, "resolution": (2, 4), "metadata": {"axes": "ZYX", "unit": "um", "spacing": 1.5}}, (1.5, 0.25, 0.5)),
        ({"imagej": True, "resolution": (2, 4), "metadata": {"axes": "ZYX", "unit": "um"}}, None),
        ({"imagej": True, "resolution": (2, 4), "metadata": {"axes": "ZYX", "unit": "um", "spacing": -1.5}}, None),
        ({"resolution": (20000, 40000), "resolutionunit": "CENTIMETER", "metadata": {"axes": "ZYX"}}, None),
    ],
)
def test_a_stack_has_a_spacing_if_the_file_says_all_three(tmp_path, options, spacing):
    tifffile.imwrite(tmp_path / "i.tif", np.zeros((4, 20, 30), np.uint8), photometric="minisblack", **options)
    with open_image(tmp_path / "i.tif") as source:
        assert source.spacing_um == (spacing and pytest.approx(spacing))


@pytest.mark.parametrize(
    ("axes", "sizes", "options", "message"),
    [
        ("TYX", (4, 20, 30), OME, "a time series; save one time point"),
        ("TZYX", (2, 4, 20, 30), OME, "a time series; save one time point"),
        ("TYX", (4, 20, 30), {"imagej": True}, "a time series; save one time point"),
        ("CYXS", (2, 20, 30, 3), {"ome": True, "photometric": "rgb"}, "more axes than one image; save one position"),
        (
            None,
            (4, 20, 30),
            {"metadata": None, "photometric": "minisblack"},
            "whose axis it doesn't name; if they are slices say so, with --axes ZYX",
        ),
    ],
)
def test_series_and_nameless_pages_are_refused(tmp_path, axes, sizes, options, message):
    options = {"metadata": {"axes": axes}} | options
    tifffile.imwrite(tmp_path / "i.tif", np.zeros(sizes, np.uint8), **options)
    with pytest.raises(UnsuitableImage, match=message) as caught:
        open_image(tmp_path / "i.tif")
    assert caught.value.code == "dimension_not_supported"


def test_several_positions_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "i.tif", ome=True) as tiff:
        for _ in range(2):
            tiff.write(np.zeros((20, 30), np.uint8), photometric="minisblack")
    with pytest.raises(UnsuitableImage, match="has 2 images, several positions; save one of them as a file") as caught:
        open_image(tmp_path / "i.tif")
    assert caught.value.code == "dimension_not_supported"


def test_a_label_beside_the_image_is_left_alone(tmp_path):
    image = RANDOM.integers(0, 250, (40, 60)).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "i.tif", ome=True) as tiff:
        tiff.write(image, photometric="minisblack")
        tiff.write(np.zeros((20, 30, 3), np.uint8), photometric="rgb")
    with open_image(tmp_path / "i.tif") as source:
        np.testing.assert_array_equal(source.read((slice(0, 40), slice(0, 60)))[0], image)
        assert len(source.levels) == 1
