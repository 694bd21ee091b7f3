import json
import os
import resource
from itertools import product
from shutil import copytree

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec

from configs.sections import ClassSection
from imaging.errors import BrokenImage, ImageTooLarge, UnsuitableImage, UnsupportedFormat
from imaging.guards import UPLOAD, Guards
from imaging.ome_zarr.image import OmeZarrSource
from imaging.open import open_image
from imaging.source import Geometry
from imaging.writing.band_writer import open_writer

TYPES = {"t": "time", "c": "channel"}
FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])


def described(axes, scales, *, unit="micrometer", translations=None, paths=None):
    """A multiscale's metadata; one scale a level, in the axes' order."""
    datasets = []
    for level, scale in enumerate(scales):
        steps = [{"type": "scale", "scale": list(scale)}]
        if translations:
            steps.append({"type": "translation", "translation": list(translations[level])})
        datasets.append({"path": paths[level] if paths else str(level), "coordinateTransformations": steps})
    named = [
        {"name": axis, "type": TYPES.get(axis, "space")} | ({"unit": unit} if axis in "zyx" and unit else {}) for axis in axes
    ]
    return {"axes": named, "datasets": datasets}


def write_group(folder, zarr_format, multiscale, **more):
    if zarr_format == 2:
        attributes = {"multiscales": [{"version": "0.4", **multiscale}], **more}
    else:
        attributes = {"ome": {"version": "0.5", "multiscales": [multiscale], **more}}
    zarr.create_group(folder, zarr_format=zarr_format, attributes=attributes, overwrite=True)


def write(folder, arrays, axes, *, zarr_format=2, scales=None, unit="micrometer", translations=None, **options):
    """A pyramid; `options` are zarr's for each array."""
    scales = scales or [(1.0,) * len(axes) for _ in arrays]
    write_group(folder, zarr_format, described(axes, scales, unit=unit, translations=translations))
    for level, array in enumerate(arrays):
        options = {"chunks": tuple(min(4, size) for size in array.shape)} | options
        stored = zarr.create_array(
            folder, name=str(level), shape=array.shape, dtype=array.dtype, zarr_format=zarr_format, **options
        )
        stored[...] = array
    return folder


def pixels(shape, dtype="uint8"):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def read_all(source, level=0):
    return source.read(tuple(slice(0, size) for size in source.levels[level].shape), level)


def edit(path, **changes):
    """Metadata with some values changed; `__` steps down."""
    content = json.loads(path.read_text())
    for name, value in changes.items():
        *way, last = name.split("__")
        place = content
        for step in way:
            place = place[int(step) if step.isdigit() else step]
        place[int(last) if last.isdigit() else last] = value
    path.write_text(json.dumps(content))


def array_file(folder, zarr_format, level=0):
    return folder / str(level) / ("zarr.json" if zarr_format == 3 else ".zarray")


def refused(folder, kind, code, words, **options):
    with pytest.raises(kind) as caught, open_image(folder, **options) as source:
        read_all(source)
    assert caught.value.code == code
    assert words in caught.value.message
    assert str(folder) not in caught.value.message


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    return {number: write(folder / str(number), [pixels((8, 8))], "yx", zarr_format=number) for number in (2, 3)}


@pytest.fixture
def plain(originals, tmp_path):
    """Makes a copy of a sound image, to be damaged."""
    return lambda zarr_format: copytree(originals[zarr_format], tmp_path / "plain")


@FORMATS
@pytest.mark.parametrize(
    ("axes", "shape", "inside"),
    [
        ("yx", (5, 7), (1, 5, 7)),
        ("cyx", (3, 5, 7), (3, 5, 7)),
        ("zyx", (4, 5, 7), (1, 4, 5, 7)),
        ("zyx", (1, 5, 7), (1, 5, 7)),
        ("czyx", (2, 4, 5, 7), (2, 4, 5, 7)),
        ("tczyx", (1, 2, 4, 5, 7), (2, 4, 5, 7)),
        ("tczyx", (1, 3, 1, 5, 7), (3, 5, 7)),
        ("tyx", (1, 5, 7), (1, 5, 7)),
    ],
)
def test_axes_become_channels_and_space(tmp_path, zarr_format, axes, shape, inside):
    array = pixels(shape)
    scale = [{"z": 4.0, "y": 0.5, "x": 0.25}.get(axis, 1.0) for axis in axes]
    with open_image(write(tmp_path / "a", [array], axes, zarr_format=zarr_format, scales=[scale])) as source:
        assert type(source) is OmeZarrSource
        assert source.mask_format == "ome-zarr"
        assert (source.channels, *source.shape) == inside
        assert source.spacing_um == (4.0, 0.5, 0.25)[-len(source.shape) :]
        assert source.geometry.origin_um is None
        np.testing.assert_array_equal(read_all(source), array.reshape(inside))


def test_axes_of_another_order_are_turned(tmp_path):
    array = pixels((5, 7, 3))
    with open_image(write(tmp_path / "a", [array], "yxc")) as source:
        np.testing.assert_array_equal(read_all(source), np.moveaxis(array, -1, 0))
    with open_image(write(tmp_path / "b", [array], "xyz", scales=[(1.0, 2.0, 3.0)])) as source:
        np.testing.assert_array_equal(read_all(source)[0], array.transpose())
        assert source.spacing_um == (3.0, 2.0, 1.0)


@FORMATS
def test_levels_have_their_own_shapes_and_spacings(tmp_path, zarr_format):
    arrays = [pixels((3, 9, 8)), pixels((3, 5, 4)), pixels((3, 2, 2))]
    scales = [(1.0, 0.5, 0.5), (1.0, 1.0, 1.0), (1.0, 2.0, 2.0)]
    with open_image(write(tmp_path / "a", arrays, "cyx", zarr_format=zarr_format, scales=scales)) as source:
        assert [level.shape for level in source.levels] == [(9, 8), (5, 4), (2, 2)]
        assert [level.spacing_um for level in source.levels] == [(0.5, 0.5), (1.0, 1.0), (2.0, 2.0)]
        for level, array in enumerate(arrays):
            np.testing.assert_array_equal(read_all(source, level), array)


@pytest.mark.parametrize(
    ("unit", "um"),
    [("micrometer", 1.0), ("nanometer", 0.001), ("millimeter", 1000.0), ("meter", 1e6), ("angstrom", 1e-4), ("um", 1.0)],
)
def test_units_are_honoured(tmp_path, unit, um):
    path = write(tmp_path / "a", [pixels((5, 7))], "yx", unit=unit, scales=[(2.0, 3.0)], translations=[(10.0, 20.0)])
    with open_image(path) as source:
        assert source.spacing_um == pytest.approx((2 * um, 3 * um))
        assert source.geometry.origin_um == pytest.approx((10 * um, 20 * um))


@pytest.mark.parametrize("unit", [None, "furlong", "pixel", ""])
def test_a_spacing_without_a_unit_of_length_is_unknown(tmp_path, unit):
    path = write(tmp_path / "a", [pixels((5, 7))], "yx", unit=unit, scales=[(2.0, 3.0)], translations=[(10.0, 20.0)])
    with open_image(path) as source:
        assert source.spacing_um is None
        assert source.geometry.origin_um is None
    with open_image(path, spacing_um=(0.5,)) as source:
        assert source.spacing_um == (0.5, 0.5)


@FORMATS
def test_the_pyramids_own_transformations_come_after_the_levels(tmp_path, zarr_format):
    path = write(tmp_path / "a", [pixels((5, 7))], "yx", zarr_format=zarr_format, scales=[(2, 3)], translations=[(10, 20)])
    outer = [{"type": "scale", "scale": [0.5, 2]}, {"type": "translation", "translation": [1, 2]}]
    if zarr_format == 2:
        edit(path / ".zattrs", multiscales__0__coordinateTransformations=outer)
    else:
        edit(path / "zarr.json", attributes__ome__multiscales__0__coordinateTransformations=outer)
    with open_image(path) as source:
        assert source.spacing_um == (1.0, 6.0)
        assert source.geometry.origin_um == (6.0, 42.0)


COMPRESSORS_2 = {
    "none": None,
    "zlib": numcodecs.Zlib(),
    "gzip": numcodecs.GZip(),
    "zstd": numcodecs.Zstd(),
    "lz4": numcodecs.LZ4(),
    **{
        f"blosc-{name}-{shuffle}": numcodecs.Blosc(name, shuffle=shuffle)
        for name, shuffle in product(("lz4", "lz4hc", "blosclz", "zstd", "zlib"), (0, 1, 2))
    },
}
CODECS_3 = {
    "none": [],
    "gzip": [GzipCodec()],
    "zstd": [ZstdCodec(checksum=True)],
    "blosc": [BloscCodec(cname="zstd", shuffle="bitshuffle")],
    "crc32c": [Crc32cCodec()],
    "zstd-crc32c": [ZstdCodec(), Crc32cCodec()],
}


@pytest.mark.parametrize("compressor", COMPRESSORS_2.values(), ids=COMPRESSORS_2.keys())
def test_compressions_of_format_2(tmp_path, compressor):
    for order, dtype in (("C", ">u2"), ("F", "<u2")):
        array = pixels((2, 9, 7), dtype)
        with open_image(write(tmp_path / order, [array], "cyx", compressors=compressor, order=order)) as source:
            assert source.dtype == read_all(source).dtype == np.dtype(np.uint16)
            np.testing.assert_array_equal(read_all(source), array)


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("order", [None, (2, 0, 1)])
@pytest.mark.parametrize("codecs", CODECS_3.values(), ids=CODECS_3.keys())
def test_compressions_of_format_3(tmp_path, codecs, order, endian):
    array = pixels((2, 9, 7), "int16")
    filters = [TransposeCodec(order=order)] if order else None
    options = {"serializer": BytesCodec(endian=endian), "compressors": codecs, "filters": filters}
    with open_image(write(tmp_path / "a", [array], "cyx", zarr_format=3, **options)) as source:
        np.testing.assert_array_equal(read_all(source), array)


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("codecs", CODECS_3.values(), ids=CODECS_3.keys())
def test_shards(tmp_path, codecs, location):
    array = pixels((2, 19, 17), "float32")
    array[:, 4:8, 4:8] = 0  # a chunk that the shard leaves out
    sharding = ShardingCodec(chunk_shape=(1, 4, 4), codecs=[BytesCodec(), *codecs], index_location=location)
    options = {"serializer": sharding, "compressors": None, "chunks": (2, 8, 12)}
    with open_image(write(tmp_path / "a", [array], "cyx", zarr_format=3, **options)) as source:
        np.testing.assert_array_equal(read_all(source), array)
        np.testing.assert_array_equal(source.read((slice(5, 7), slice(3, 16))), array[:, 5:7, 3:16])


@pytest.mark.parametrize("encoding", [{"name": "default", "separator": "."}, {"name": "v2", "separator": "/"}])
def test_the_names_of_chunks(tmp_path, encoding):
    array = pixels((9, 7))
    with open_image(write(tmp_path / "a", [array], "yx", zarr_format=3, chunk_key_encoding=encoding)) as source:
        np.testing.assert_array_equal(read_all(source)[0], array)
    nested = {"name": "v2", "separator": "/"}
    with open_image(write(tmp_path / "b", [array], "yx", zarr_format=2, chunk_key_encoding=nested)) as source:
        np.testing.assert_array_equal(read_all(source)[0], array)


@FORMATS
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_region_is_a_slice_of_the_whole(data, zarr_format, tmp_path_factory):
    shape = data.draw(st.tuples(*[st.integers(1, 3), *[st.integers(1, 9)] * 3]))
    chunks = data.draw(st.tuples(*[st.integers(1, 10)] * 4))
    array = pixels(shape)
    path = tmp_path_factory.mktemp("zarr") / "a"
    with open_image(write(path, [array], "czyx", zarr_format=zarr_format, chunks=chunks)) as source:
        region = tuple(data.draw(ranges(size)) for size in source.shape)
        whole = array[:, 0] if shape[1] == 1 else array
        np.testing.assert_array_equal(source.read(region), whole[(slice(None), *region)])


def ranges(size):
    pairs = st.tuples(st.integers(0, size - 1), st.integers(1, size))
    return pairs.map(lambda pair: slice(pair[0], max(pair[0] + 1, pair[1])))


@FORMATS
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_types_of_images(tmp_path, zarr_format, dtype):
    array = pixels((5, 7), dtype)
    with open_image(write(tmp_path / "a", [array], "yx", zarr_format=zarr_format)) as source:
        assert read_all(source).dtype == source.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(read_all(source)[0], array)


@FORMATS
@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint16", "int32", "uint32"])
def test_labels_inside_an_image_are_references(tmp_path, zarr_format, dtype):
    image = write(tmp_path / "a.zarr", [pixels((3, 9, 7))], "cyx", zarr_format=zarr_format)
    zarr.create_group(image, path="labels", zarr_format=zarr_format, attributes={"labels": ["nuclei"]})
    labels = pixels((9, 7), dtype)
    folder = write(image / "labels" / "nuclei", [labels, labels[::2, ::2]], "yx", zarr_format=zarr_format)
    with open_image(folder, labels=True) as source:
        assert source.dtype == labels.dtype
        np.testing.assert_array_equal(read_all(source)[0], labels)
        np.testing.assert_array_equal(read_all(source, 1)[0], labels[::2, ::2])
    with open_image(image) as source:
        assert source.channels == 3


@FORMATS
def test_a_chunk_without_a_file_is_the_fill_value(tmp_path, zarr_format):
    array = np.full((8, 8), 7, np.uint8)
    array[:4, :4] = 1
    path = write(tmp_path / "a", [array], "yx", zarr_format=zarr_format, fill_value=7)
    with open_image(path) as source:
        np.testing.assert_array_equal(read_all(source)[0], array)


def test_a_fill_value_of_null_is_0(tmp_path):
    path = write(tmp_path / "a", [np.zeros((8, 8), np.uint8)], "yx")
    edit(path / "0" / ".zarray", fill_value=None)
    with open_image(path) as source:
        assert read_all(source).max() == 0


def chunk_files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json" and path.name[:2] != ".z")


@FORMATS
def test_a_region_touches_only_its_chunks(tmp_path, zarr_format):
    array = pixels((8, 8))
    path = write(tmp_path / "a", [array], "yx", zarr_format=zarr_format)
    for file in chunk_files(path)[1:]:
        file.write_bytes(b"x")
    with open_image(path) as source:
        np.testing.assert_array_equal(source.read((slice(0, 4), slice(0, 4)))[0], array[:4, :4])
        with pytest.raises(BrokenImage):
            source.read((slice(0, 5), slice(0, 4)))
        source.read((slice(0, 4), slice(0, 4)))


def test_chunks_are_held_up_to_a_limit_and_let_go(tmp_path):
    array = pixels((8, 8))
    path = write(tmp_path / "a", [array], "yx", chunks=(8, 8))
    with open_image(path) as source:
        assert source.held_bytes == 64
        read_all(source)
        chunk_files(path)[0].unlink()
        np.testing.assert_array_equal(read_all(source)[0], array)
        source.close()
        assert read_all(source).max() == 0


@FORMATS
def test_a_process_of_its_own_reads_it_too(plain, zarr_format):
    path = plain(zarr_format)
    with open_image(path) as here, open_image(path, guards=UPLOAD) as there:
        np.testing.assert_array_equal(read_all(here), read_all(there))
        assert there.geometry == here.geometry
        assert there.mask_format == "ome-zarr"


@pytest.mark.parametrize("shape", [(9, 7), (5, 9, 7)])
def test_what_is_written_is_read(tmp_path, shape):
    mask = pixels(shape) % 2
    geometry = Geometry(shape, spacing_um=(2.0, 0.5, 0.25)[-len(shape) :], origin_um=(7.0, 8.0, 9.0)[-len(shape) :])
    classes = [ClassSection(name=name, colour="#000000") for name in ("background", "nucleus")]
    with open_writer(tmp_path / "a", geometry, format="ome-zarr", classes=classes) as writer:
        writer.write(0, mask)
    with open_image(tmp_path / "a", labels=True) as source:
        assert source.geometry == geometry
        np.testing.assert_array_equal(read_all(source)[0], mask)


DAMAGES = [
    lambda content: b"",
    lambda content: content[: len(content) // 2],
    lambda content: content[:-1],
    lambda content: b"\xff" * (len(content) + 1),
    lambda content: content + bytes(10**6),
]


@pytest.mark.parametrize(("zarr_format", "codec"), [(2, name) for name in COMPRESSORS_2] + [(3, name) for name in CODECS_3])
def test_a_damaged_chunk_is_named(tmp_path, zarr_format, codec):
    compressors = CODECS_3[codec] if zarr_format == 3 else COMPRESSORS_2[codec]
    path = write(tmp_path / "a", [pixels((8, 8))], "yx", zarr_format=zarr_format, compressors=compressors)
    file = chunk_files(path)[-1]
    content = file.read_bytes()
    for damage in DAMAGES:
        file.write_bytes(damage(content))
        refused(path, BrokenImage, "chunk_unreadable", "a chunk of the OME-Zarr is cut, damaged")


@pytest.mark.parametrize("place", [-1, -5, 0])
def test_a_damaged_shard_is_named(tmp_path, place):
    sharding = ShardingCodec(chunk_shape=(4, 4), codecs=[BytesCodec(), Crc32cCodec()])
    options = {"serializer": sharding, "compressors": None, "chunks": (8, 8)}
    path = write(tmp_path / "a", [pixels((8, 8))], "yx", zarr_format=3, **options)
    (file,) = chunk_files(path)
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    refused(path, BrokenImage, "chunk_unreadable", "a chunk of the OME-Zarr is cut, damaged")
    file.write_bytes(b"short")
    refused(path, BrokenImage, "chunk_unreadable", "copy or export the image again")


def test_a_shard_whose_index_lies_is_named(tmp_path):
    sharding = ShardingCodec(chunk_shape=(4, 4), codecs=[BytesCodec()], index_codecs=[BytesCodec()])
    options = {"serializer": sharding, "compressors": None, "chunks": (8, 8)}
    path = write(tmp_path / "a", [pixels((8, 8))], "yx", zarr_format=3, **options)
    (file,) = chunk_files(path)
    content = file.read_bytes()
    for offset, length in ((10**9, 16), (0, 10**15), (2**64 - 1, 16), (0, 2**64 - 1)):
        file.write_bytes(content[:-64] + np.array([offset, length] * 4, "<u8").tobytes())
        refused(path, BrokenImage, "chunk_unreadable", "cut, damaged")


@pytest.mark.parametrize("codec", ["gzip", "zlib", "zstd", "blosc", "lz4"])
def test_a_chunk_that_would_unpack_to_much_more_costs_nothing(tmp_path, codec):
    compressor = COMPRESSORS_2.get(codec, numcodecs.Blosc("zstd"))
    path = write(tmp_path / "a", [pixels((256, 256))], "yx", compressors=compressor, chunks=(256, 256))
    bomb = compressor.encode(bytes(2**23)) if codec == "lz4" else compressor.encode(bytes(2**27))
    chunk_files(path)[0].write_bytes(bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path, BrokenImage, "chunk_unreadable", "a chunk of the OME-Zarr")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024  # KiB


@FORMATS
def test_links_out_of_the_folder_are_not_followed(tmp_path, zarr_format):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(16))
    array = pixels((8, 8))
    path = write(tmp_path / "a", [array], "yx", zarr_format=zarr_format, compressors=None)
    file = chunk_files(path)[-1]
    for target in (secret, tmp_path / "missing", tmp_path):
        file.unlink()
        file.symlink_to(target)
        refused(path, BrokenImage, "chunk_unreadable", "out of its folder")
    file.unlink()
    file.symlink_to(chunk_files(path)[0])  # inside, a link is as good as a file
    with open_image(path) as source:
        np.testing.assert_array_equal(source.read((slice(4, 8), slice(4, 8)))[0], array[:4, :4])


@FORMATS
def test_levels_and_metadata_outside_are_not_read(tmp_path, plain, zarr_format):
    write(tmp_path / "other", [pixels((8, 8))], "yx", zarr_format=zarr_format)
    path = plain(zarr_format)
    words = "a level of the OME-Zarr lies outside its folder"
    for level in ("../other/0", "/etc/x", "0/../0", "0//0", "https://example.org/0", "..", "a\\b"):
        write_group(path, zarr_format, described("yx", [(1, 1)], paths=[level]))
        refused(path, UnsupportedFormat, "zarr_path_outside", words)
    write_group(path, zarr_format, described("yx", [(1, 1)], paths=["linked"]))
    (path / "linked").symlink_to(tmp_path / "other" / "0")
    refused(path, UnsupportedFormat, "zarr_path_outside", words)
    group = path / ("zarr.json" if zarr_format == 3 else ".zattrs")
    group.unlink()
    group.symlink_to(tmp_path / "other" / group.name)
    refused(path, UnsupportedFormat, "zarr_path_outside", words)


@FORMATS
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite(tmp_path, zarr_format, value):
    array = np.zeros((8, 8), np.float32)
    array[5, 5] = value
    path = write(tmp_path / "a", [array], "yx", zarr_format=zarr_format)
    refused(path, UnsuitableImage, "non_finite_pixels", "NaN or infinite; replace them")
    empty = write(tmp_path / "b", [np.zeros((8, 8), np.float32)], "yx", zarr_format=zarr_format, fill_value=value)
    for file in chunk_files(empty):
        file.unlink()
    refused(empty, UnsuitableImage, "non_finite_pixels", "NaN or infinite; replace them")


@FORMATS
@pytest.mark.parametrize("dtype", ["float64", "int64", "uint64", "bool", "complex64", "int32"])
def test_other_types_are_refused(tmp_path, zarr_format, dtype):
    path = write(tmp_path / "a", [pixels((8, 8), dtype)], "yx", zarr_format=zarr_format)
    refused(
        path, UnsuitableImage, "pixel_format_not_supported", "allowed are uint8, uint16, int16, float32: convert the pixels"
    )


@FORMATS
def test_sizes_are_limited(plain, zarr_format):
    path = plain(zarr_format)
    refused(path, ImageTooLarge, "image_too_large", "64 pixels, at most 63", guards=Guards(isolated=False, max_pixels=63))
    edit(array_file(path, zarr_format), shape=[10**6, 10**6])
    refused(path, ImageTooLarge, "image_too_large", "1000000000000 pixels, at most 100000000000 are allowed; cut out")


@FORMATS
@pytest.mark.parametrize(("axes", "shape", "said"), [("tyx", (2, 8, 8), "2 times"), ("cyx", (257, 2, 2), "257 channels")])
def test_series_and_too_many_channels(tmp_path, zarr_format, axes, shape, said):
    path = write(tmp_path / "a", [pixels(shape)], axes, zarr_format=zarr_format)
    refused(path, UnsuitableImage, "dimension_not_supported", said)


@pytest.mark.parametrize("names", [["y", "q"], ["z", "x"], ["y", "y"], ["Y", "X"], ["y", "yx"]])
def test_other_axes_are_refused(tmp_path, names):
    path = write(tmp_path / "a", [pixels((8, 8))], "yx")
    edit(path / ".zattrs", multiscales__0__axes=[{"name": name} for name in names])
    refused(path, UnsuitableImage, "dimension_not_supported", "allowed are y and x, and one each of z, c and t")


@FORMATS
def test_folders_without_an_image_say_where_to_look(tmp_path, plain, zarr_format):
    zarr.create_group(tmp_path / "plate", zarr_format=zarr_format, attributes={"plate": {}, "bioformats2raw.layout": 3})
    refused(tmp_path / "plate", UnsuitableImage, "zarr_no_image", "give the folder of one image")
    zarr.create_group(tmp_path / "bare", zarr_format=zarr_format)
    refused(tmp_path / "bare", UnsuitableImage, "zarr_no_image", "image.zarr/labels/nuclei")
    path = plain(zarr_format)
    refused(path / "0", UnsuitableImage, "zarr_no_image", "no multiscales")


@pytest.mark.parametrize(("zarr_format", "version"), [(2, "0.3"), (2, "0.5"), (3, "0.4"), (3, "0.6"), (3, None), (2, 4)])
def test_other_versions_are_refused(plain, zarr_format, version):
    path = plain(zarr_format)
    if zarr_format == 2:
        edit(path / ".zattrs", multiscales__0__version=version)
    else:
        edit(path / "zarr.json", attributes__ome__version=version)
    refused(path, UnsupportedFormat, "zarr_version_not_supported", "allowed are 0.4 (in Zarr 2) and 0.5 (in Zarr 3)")


GROUP_FAULTS = [
    {"axes": 5},
    {"axes": ["y", "x"]},
    {"axes": [{"name": "y"}]},
    {"axes": [{"name": "c"}, {"name": "y"}, {"name": "x"}]},  # more than the array has
    {"datasets": []},
    {"datasets": [{"path": "0"}]},
    {"datasets": [{"path": "", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}]},
    {"datasets": [{"path": 7, "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}]},
    {"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1]}]}]},
    {"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 0]}]}]},
    {"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, -1]}]}]},
    {"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1e999]}]}]},
    {"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1e308, 1]}]}]},
    {"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": "0"}]}]},
    {"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "path": "scales"}]}]},
    {"datasets": [{"path": "0", "coordinateTransformations": [{"type": "affine", "affine": [[1]]}]}]},
    {"datasets": [{"path": "0", "coordinateTransformations": [{"type": "translation", "translation": [1, 1]}]}]},
    {"datasets": [{"path": "0", "coordinateTransformations": [{"type": "identity"}]}]},
    {"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}] * 2}]},
    {"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}] * 65},
]


@FORMATS
@pytest.mark.parametrize("fault", GROUP_FAULTS, ids=range(len(GROUP_FAULTS)))
def test_wrong_metadata_of_the_image(plain, zarr_format, fault):
    path = plain(zarr_format)
    multiscale = described("yx", [(1, 1)], unit="meter") | fault
    if zarr_format == 2:
        edit(path / ".zattrs", multiscales=[{"version": "0.4", **multiscale}])
    else:
        edit(path / "zarr.json", attributes__ome__multiscales=[multiscale])
    refused(path, BrokenImage, "zarr_metadata_invalid", "aren't what OME-Zarr 0.4 with Zarr 2, or 0.5 with Zarr 3, says")


FAULTS_2 = [
    {"shape": [8]},
    {"shape": [8, 0]},
    {"shape": [8, -8]},
    {"shape": "88"},
    {"shape": [8, 2**41]},
    {"shape": []},
    {"chunks": [4, 0]},
    {"chunks": [4]},
    {"chunks": [4, 4, 4]},
    {"chunks": None},
    {"zarr_format": 3},
    {"order": "K"},
    {"dimension_separator": "../"},
    {"fill_value": "abc"},
    {"fill_value": 256},
    {"fill_value": 0.5},
    {"fill_value": [1]},
    {"compressor": "zlib"},
]
FAULTS_3 = [
    {"shape": [8]},
    {"shape": [8, 0]},
    {"node_type": "group"},
    {"zarr_format": 2},
    {"chunk_grid": {"name": "rectangular", "configuration": {}}},
    {"chunk_grid__configuration": {}},
    {"chunk_grid__configuration__chunk_shape": [4, 0]},
    {"chunk_grid__configuration__chunk_shape": [4]},
    {"chunk_key_encoding": {"name": "default", "configuration": {"separator": "/../"}}},
    {"chunk_key_encoding": {"name": "mine"}},
    {"fill_value": "0x00"},
    {"fill_value": None},
    {"codecs": []},
    {"codecs": [{"name": "bytes"}] * 9},
    {"codecs": [{"name": "bytes", "configuration": {"endian": "middle"}}]},
    {"codecs": [{"name": "bytes"}], "data_type": "uint16"},  # in which byte order?
    {"codecs": [{"name": "transpose", "configuration": {"order": [0, 0]}}, {"name": "bytes"}]},
    {"codecs": [{"name": "transpose", "configuration": {"order": "F"}}, {"name": "bytes"}]},
    {"codecs": [{"name": "sharding_indexed", "configuration": {"chunk_shape": [2, 2]}}]},
]


@pytest.mark.parametrize(("zarr_format", "fault"), [(2, fault) for fault in FAULTS_2] + [(3, fault) for fault in FAULTS_3])
def test_wrong_metadata_of_an_array(plain, zarr_format, fault):
    path = plain(zarr_format)
    edit(array_file(path, zarr_format), **fault)
    refused(path, BrokenImage, "zarr_metadata_invalid", "export the image again")


def shards(**changes):
    configuration = {
        "chunk_shape": [2, 2],
        "codecs": [{"name": "bytes"}],
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
    }
    return {"name": "sharding_indexed", "configuration": configuration | changes}


def test_chunks_that_do_not_fill_a_shard(tmp_path):
    path = write(tmp_path / "a", [pixels((8, 8))], "yx", zarr_format=3)
    edit(array_file(path, 3), codecs=[shards(chunk_shape=[3, 3])])
    refused(path, BrokenImage, "zarr_metadata_invalid", "export the image again")


@pytest.mark.parametrize(
    ("zarr_format", "change"),
    [
        (2, {"compressor": {"id": "bz2"}}),
        (2, {"compressor": {"id": "lzma"}}),
        (2, {"filters": [{"id": "delta"}]}),
        (3, {"codecs": [{"name": "vlen-utf8"}]}),
        (3, {"codecs": [{"name": "bytes"}, {"name": "bz2"}]}),
        (3, {"codecs": [{"name": "bytes"}, {"name": "zstd"}, {"name": "zstd"}]}),
        (3, {"codecs": [{"name": "bytes"}, {"name": "crc32c"}, {"name": "zstd"}]}),
        (3, {"codecs": [{"name": "transpose", "configuration": {"order": [1, 0]}}]}),
        (3, {"codecs": [{"name": "zstd"}]}),
        (3, {"codecs": [shards(), {"name": "zstd"}]}),
        (3, {"codecs": [shards(codecs=[shards()])]}),
        (3, {"codecs": [shards(index_codecs=[{"name": "bytes", "configuration": {"endian": "big"}}])]}),
        (3, {"codecs": [shards(index_codecs=[{"name": "bytes"}, {"name": "gzip"}])]}),
        (3, {"storage_transformers": [{"name": "mine"}]}),
    ],
)
def test_chunks_stored_in_other_ways_are_refused(plain, zarr_format, change):
    path = plain(zarr_format)
    edit(array_file(path, zarr_format), **change)
    words = "allowed are blosc, gzip, lz4, zlib, zstd or no compression, without filters"
    refused(path, UnsupportedFormat, "zarr_codec_not_supported", words)


@pytest.mark.parametrize(
    ("zarr_format", "change"),
    [
        (2, {"chunks": [2**14, 2**15]}),
        (3, {"chunk_grid__configuration__chunk_shape": [2**14, 2**15]}),
        (3, {"chunk_grid__configuration__chunk_shape": [2**12, 2**12], "codecs": [shards()]}),
    ],
)
def test_chunks_that_are_too_large_are_refused(plain, zarr_format, change):
    path = plain(zarr_format)
    edit(array_file(path, zarr_format), **change)
    refused(path, UnsupportedFormat, "zarr_chunks_too_large", "at most 268435456 bytes, a shard 1048576 chunks; save it with")


@FORMATS
@pytest.mark.parametrize(
    "arrays",
    [
        [pixels((1, 8, 8)), pixels((1, 9, 4))],  # finer than the one before
        [pixels((1, 8, 8)), pixels((2, 4, 4))],
        [pixels((1, 8, 8)), pixels((1, 4, 4), "uint16")],
    ],
)
def test_levels_that_do_not_belong_together(tmp_path, zarr_format, arrays):
    path = write(tmp_path / "a", arrays, "cyx", zarr_format=zarr_format)
    refused(path, BrokenImage, "zarr_metadata_invalid", "export the image again")


@FORMATS
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 10**5, b'{"a":' * 10**5, b"null", b"1" * 10**5])
def test_metadata_that_are_not_json(plain, zarr_format, content):
    path = plain(zarr_format)
    array_file(path, zarr_format).write_bytes(content)
    refused(path, BrokenImage, "zarr_metadata_invalid", "export the image again")
    (path / ("zarr.json" if zarr_format == 3 else ".zattrs")).write_bytes(content)
    refused(path, BrokenImage, "zarr_metadata_invalid", "export the image again")


@FORMATS
def test_metadata_that_are_missing_or_endless(plain, zarr_format):
    path = plain(zarr_format)
    file = array_file(path, zarr_format)
    file.write_bytes(b" " * (16 * 2**20 + 1))
    refused(path, BrokenImage, "zarr_metadata_too_large", "over 16777216 bytes")
    file.unlink()
    refused(path, BrokenImage, "zarr_metadata_missing", "copy the whole folder again")
    os.mkfifo(file)  # opening it would wait for ever
    refused(path, BrokenImage, "zarr_metadata_missing", "copy the whole folder again")


@FORMATS
def test_a_pipe_is_no_chunk(plain, zarr_format):
    path = plain(zarr_format)
    file = chunk_files(path)[0]
    file.unlink()
    os.mkfifo(file)
    refused(path, BrokenImage, "chunk_unreadable", "a chunk of the OME-Zarr")


@FORMATS
def test_memory_for_chunks_is_bounded_however_large_the_image(plain, zarr_format):
    path = plain(zarr_format)
    edit(array_file(path, zarr_format), shape=[100_000, 100_000])
    large = {"chunks": [512, 512]} if zarr_format == 2 else {"chunk_grid__configuration__chunk_shape": [512, 512]}
    edit(array_file(path, zarr_format), **large)
    with open_image(path) as source:
        assert source.held_bytes == 64 * 2**20
