import gzip
import resource
import zlib

import nibabel as nib
import nrrd
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.sections import ClassSection
from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat
from imaging.guards import UPLOAD, Guards
from imaging.nrrd.volume import NrrdSource
from imaging.open import open_image
from imaging.writing.band_writer import open_writer
from tests.imaging.affines import ORIENTATIONS, affine_of, rotation

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
HEADER = {
    "type": "uint8",
    "dimension": "3",
    "sizes": "2 3 4",
    "space": "left-posterior-superior",
    "space directions": "(1,0,0) (0,2,0) (0,0,3)",
    "space origin": "(10,20,30)",
    "encoding": "raw",
    "endian": "little",
}
VOXELS = np.arange(24, dtype=np.uint8)
STORED = VOXELS.tobytes()
CLASSES = [ClassSection(name=str(label), colour="#000000") for label in range(24)]


def by_hand(path, voxels=STORED, *, magic="NRRD0005", more="", end="\n", **fields):
    """A file out of HEADER with some fields changed, or left out where they are None; `_` in a name is a blank."""
    header = HEADER | {name.replace("_", " "): value for name, value in fields.items()}
    lines = [magic, *(f"{name}: {value}" for name, value in header.items() if value is not None)]
    path.write_bytes(("\n".join(lines) + "\n" + more + end).encode() + voxels)
    return path


def write(path, array, ras_affine, *, space="left-posterior-superior", **options):
    """Through pynrrd, whose arrays have the file's first axis first."""
    to_space = {"right-anterior-superior": np.eye(4), "left-posterior-superior": LPS, "LAS": np.diag([-1.0, 1, 1, 1])}[space]
    affine = to_space @ ras_affine
    header = {"space": space, "space directions": affine[:3, :3].T, "space origin": affine[:3, 3], **options}
    nrrd.write(str(path), array, header, index_order="F")
    return path


def read_all(source):
    return source.read(tuple(slice(0, size) for size in source.shape))


def assert_twins(tmp_path, array, affine, space="left-posterior-superior"):
    """The same volume as NRRD and as NIfTI is the same inside."""
    write(tmp_path / "v.nrrd", array, affine, space=space)
    nib.Nifti1Image(array, affine).to_filename(tmp_path / "v.nii")
    with open_image(tmp_path / "v.nrrd") as ours, open_image(tmp_path / "v.nii") as twin:
        np.testing.assert_array_equal(read_all(ours), read_all(twin))
        np.testing.assert_allclose(ours.geometry.affine, twin.geometry.affine, atol=1e-5)  # NIfTI holds float32
        assert ours.spacing_um == pytest.approx(twin.spacing_um)
        assert (ours.shape, ours.channels, ours.dtype) == (twin.shape, twin.channels, twin.dtype)


@pytest.mark.parametrize(("axes", "flips"), ORIENTATIONS)
def test_every_orientation_is_inside_what_nifti_makes_of_it(tmp_path, axes, flips):
    assert_twins(tmp_path, np.arange(24, dtype=np.int16).reshape(2, 3, 4), affine_of(axes, flips))


@pytest.mark.parametrize("space", ["right-anterior-superior", "left-posterior-superior", "LAS"])
@pytest.mark.parametrize("angles", [(0.3, 0, 0), (0.2, -0.4, 0.6), (2.5, 1.0, -2.0)])
def test_turned_volumes_in_every_space_too(tmp_path, space, angles):
    affine = affine_of((1, 2, 0), (1, -1, 1))
    affine[:3, :3] = rotation(angles) @ affine[:3, :3]
    assert_twins(tmp_path, np.arange(24, dtype=np.float32).reshape(2, 3, 4), affine, space)


def test_an_lps_volume_typed_out(tmp_path):
    path = by_hand(tmp_path / "v", bytes([1, 2, 3, 4]), sizes="2 2 1")  # x to the left, y to the back
    with open_image(path) as source:
        assert type(source) is NrrdSource
        assert read_all(source).tolist() == [[[[4, 3], [2, 1]]]]
        assert source.geometry.affine.tolist() == [[-1, 0, 0, -10], [0, -2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]]
        assert source.spacing_um == (3000.0, 2000.0, 1000.0)
        assert (source.mask_format, source.warnings) == ("nifti", ())


def test_a_mask_leaves_as_nifti_on_the_same_affine(tmp_path):
    affine = affine_of((2, 0, 1), (1, -1, -1))
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    mask_path = tmp_path / "mask.nii.gz"
    with open_image(write(tmp_path / "v.nrrd", array, affine)) as source:
        with open_writer(mask_path, source.geometry, format=source.mask_format, classes=CLASSES) as writer:
            writer.write(0, read_all(source)[0])
        mask = nib.load(mask_path)
    np.testing.assert_array_equal(np.asarray(mask.dataobj), array)
    np.testing.assert_allclose(mask.affine, affine, atol=1e-5)


@given(data=st.data())
def test_a_region_is_a_slice_of_the_whole(data, gzipped):
    with open_image(gzipped) as source:
        whole = read_all(source)
        region = tuple(
            data.draw(st.tuples(st.integers(0, size - 1), st.integers(1, size)).map(lambda pair: ranged(*pair)))
            for size in source.shape
        )
        np.testing.assert_array_equal(source.read(region), whole[(slice(None), *region)])


def ranged(start, stop):
    return slice(start, max(start + 1, stop))


@pytest.fixture(scope="module")
def gzipped(tmp_path_factory):
    array = np.random.default_rng(0).integers(-99, 99, (5, 6, 7)).astype(np.int16)
    return write(tmp_path_factory.mktemp("nrrd") / "v.nrrd", array, affine_of((1, 0, 2), (-1, 1, 1)), encoding="gzip")


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_types_byte_orders_and_encodings(tmp_path, dtype, endian, encoding):
    array = np.arange(24).reshape(2, 3, 4).astype((">" if endian == "big" else "<") + dtype)
    with open_image(write(tmp_path / "v.nrrd", array, LPS, encoding=encoding, endian=endian)) as source:
        inside = np.float32 if dtype.startswith("f") else np.dtype(dtype)
        assert read_all(source).dtype == source.dtype == inside
        np.testing.assert_array_equal(read_all(source)[0], array.transpose()[:, ::-1, ::-1])
        assert source.held_bytes == 24 * source.dtype.itemsize


def test_what_programs_add_is_read_over(tmp_path):
    more = "# a comment\nSegment0_Name:=liver: left\nkinds: domain domain domain\ncontent: a: b\n"
    with open_image(by_hand(tmp_path / "v", more=more)) as source:
        assert read_all(source).sum() == VOXELS.sum()


def test_lines_may_end_as_on_windows(tmp_path):
    path = by_hand(tmp_path / "v", b"")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + VOXELS.tobytes())
    with open_image(path) as source:
        assert read_all(source).sum() == VOXELS.sum()


@pytest.mark.parametrize(("unit", "um"), [("mm", 1.0), ("um", 0.001), ("micrometer", 0.001), ("m", 1000.0), ("cm", 10.0)])
def test_units_of_the_space_are_honoured(tmp_path, unit, um):
    directions = " ".join(f"({x / um:g},{y / um:g},{z / um:g})" for x, y, z in np.diag([1, 2, 3]))
    path = by_hand(tmp_path / "v", space_units=" ".join([f'"{unit}"'] * 3), space_directions=directions)
    with open_image(path) as source:
        assert source.spacing_um == pytest.approx((3000.0, 2000.0, 1000.0))
        assert source.geometry.affine[2, 3] == pytest.approx(30 * um)


@pytest.mark.parametrize(
    ("fields", "spacing_um"),
    [
        ({"spacings": "1 2 3", "units": '"mm" "mm" "mm"'}, (3000.0, 2000.0, 1000.0)),
        ({"spacings": "1 2 3"}, None),  # of what?
        ({}, None),
        ({"space": "scanner-xyz", "space_directions": "(0,2,0) (1,0,0) (0,0,3)"}, None),
        (
            {"space": "3D-right-handed", "space_directions": "(0,2,0) (1,0,0) (0,0,3)", "space_units": '"um" "um" "um"'},
            (3.0, 1.0, 2.0),
        ),
        ({"space_dimension": "3", "space_directions": "(1,0,0) (0,1,0) (0,0,1)", "space_units": "mm mm mm"}, (1000.0,) * 3),
    ],
)
def test_a_file_that_does_not_say_how_the_patient_lies_is_read_as_it_is(tmp_path, fields, spacing_um):
    path = by_hand(tmp_path / "v", **({"space": None, "space_directions": None, "space_origin": None} | fields))
    with open_image(path) as source:
        assert source.warnings == ("no_orientation",)
        assert source.geometry.affine is None
        assert source.spacing_um == spacing_um
        np.testing.assert_array_equal(read_all(source)[0], VOXELS.reshape(4, 3, 2))


def test_the_users_spacing_helps_where_the_file_has_none(tmp_path):
    path = by_hand(tmp_path / "v", space=None, space_directions=None, space_origin=None)
    with open_image(path, spacing_um=(3.0, 2.0, 1.0)) as source:
        assert source.spacing_um == (3.0, 2.0, 1.0)


@pytest.mark.parametrize("place", [0, 3])
@pytest.mark.parametrize("kind", ["list", "vector", "RGB-color"])
def test_a_fourth_axis_of_values_is_the_channels(tmp_path, place, kind):
    channels = np.stack([VOXELS.reshape(2, 3, 4), VOXELS.reshape(2, 3, 4) + 100, VOXELS.reshape(2, 3, 4) + 200])
    kinds, directions = ["domain"] * 3, ["(1,0,0)", "(0,1,0)", "(0,0,1)"]
    kinds.insert(place, kind)
    directions.insert(place, "none")
    array = np.moveaxis(channels, 0, place)
    path = by_hand(
        tmp_path / "v",
        array.tobytes(order="F"),
        space="RAS",
        dimension="4",
        sizes=" ".join(map(str, array.shape)),
        kinds=" ".join(kinds),
        space_directions=" ".join(directions),
    )
    with open_image(path) as source:
        assert (source.channels, source.shape) == (3, (4, 3, 2))
        np.testing.assert_array_equal(read_all(source), channels.transpose(0, 3, 2, 1))


def test_equal_voxels_are_told(tmp_path):
    with open_image(by_hand(tmp_path / "v", bytes(24))) as source:
        read_all(source)
        read_all(source)
        assert source.warnings == ("constant_image",)


FAULTS = {
    "size-0": ({"sizes": "2 0 4"}, BrokenImage, "nrrd_header_invalid", "a size isn't 1 or more"),
    "size-half": ({"sizes": "2.5 3 4"}, BrokenImage, "nrrd_header_invalid", "`sizes` isn't a list of whole numbers"),
    "size-below-0": ({"sizes": "-2 3 -4"}, BrokenImage, "nrrd_header_invalid", "`sizes` isn't a list of whole numbers"),
    "size-long": ({"sizes": "9" * 5000}, BrokenImage, "nrrd_header_invalid", "`sizes` isn't a list of whole numbers"),
    "no-sizes": ({"sizes": None}, BrokenImage, "nrrd_header_invalid", "`sizes` isn't a list of whole numbers"),
    "dimension": ({"dimension": "4"}, BrokenImage, "nrrd_header_invalid", "`dimension` and `sizes` don't fit"),
    "no-dimension": ({"dimension": None}, BrokenImage, "nrrd_header_invalid", "`dimension` isn't a list of whole numbers"),
    "flat": ({"dimension": "2", "sizes": "6 4"}, UnsuitableImage, "dimension_not_supported", "the size (6, 4); allowed"),
    "time": (
        {"dimension": "4", "sizes": "2 3 2 2", "kinds": "domain domain domain time"},
        UnsuitableImage,
        "dimension_not_supported",
        "send one volume of a series at a time",
    ),
    "no-kinds": ({"dimension": "4", "sizes": "2 3 2 2"}, UnsuitableImage, "dimension_not_supported", "list, vector or RGB"),
    "many-channels": (
        {"dimension": "4", "sizes": "257 3 2 2", "kinds": "list domain domain domain"},
        UnsuitableImage,
        "dimension_not_supported",
        "at most 256 channels",
    ),
    "huge": ({"sizes": "30000 30000 30000"}, ImageTooLarge, "volume_too_large", "27000000000000 voxels, but at most 536870912"),
    "long": ({"sizes": "32768 1 1"}, ImageTooLarge, "volume_side_too_large", "an axis of 32768 voxels, but at most 32767"),
    "block": ({"type": "block"}, UnsuitableImage, "dtype_not_supported", "neither integers nor real numbers"),
    "no-type": ({"type": None}, UnsuitableImage, "dtype_not_supported", "convert them, to float32"),
    "no-endian": ({"type": "short", "endian": None}, BrokenImage, "nrrd_header_invalid", "`endian` is neither"),
    "ascii": ({"encoding": "ascii"}, UnsupportedFormat, "nrrd_encoding_not_supported", "allowed are raw and gzip"),
    "bzip2": ({"encoding": "bzip2"}, UnsupportedFormat, "nrrd_encoding_not_supported", "save it again with gzip"),
    "no-encoding": ({"encoding": None}, UnsupportedFormat, "nrrd_encoding_not_supported", "raw and gzip"),
    "skip": ({"byte_skip": "-1"}, UnsupportedFormat, "nrrd_encoding_not_supported", "without bytes or lines to skip"),
    "lines": ({"line_skip": "3"}, UnsupportedFormat, "nrrd_encoding_not_supported", "without bytes or lines to skip"),
    "detached": ({"data_file": "/etc/passwd"}, UnsupportedFormat, "nrrd_detached", "save header and voxels as one .nrrd"),
    "list": ({"datafile": "LIST\na.raw\nb.raw"}, UnsupportedFormat, "nrrd_detached", "in a separate file"),
    "unknown-field": ({"colour": "red"}, BrokenImage, "nrrd_header_invalid", "a line isn't one of the standard's fields"),
    "no-field": ({"more": "hello\n"}, BrokenImage, "nrrd_header_invalid", "a line isn't one of the standard's fields"),
    "twice": ({"more": "sizes: 2 3 5\n"}, BrokenImage, "nrrd_header_invalid", "or a field occurs twice"),
    "short": ({"sizes": "2 3 5"}, BrokenImage, "nrrd_size_mismatch", "declares 30 bytes of voxels, but the file holds 24"),
    "flat-affine": ({"space_directions": "(1,0,0) (1,0,0) (0,0,1)"}, UnsuitableImage, "affine_invalid", "position of its"),
    "nan": ({"space_directions": "(nan,0,0) (0,1,0) (0,0,1)"}, UnsuitableImage, "affine_invalid", "the position of its voxels"),
    "far": ({"space_origin": "(inf,0,0)"}, UnsuitableImage, "affine_invalid", "the position of its voxels"),
    "sheared": ({"space_directions": "(1,0.5,0) (0,1,0) (0,0,1)"}, UnsuitableImage, "affine_sheared", "right angles"),
    "no-directions": ({"space_directions": None}, UnsuitableImage, "affine_invalid", "direction or origin is missing"),
    "space": ({"space": "left-posterior-superior-time"}, UnsuitableImage, "affine_invalid", "missing or unknown"),
    "unit": ({"space_units": '"mm" "mm" "s"'}, UnsuitableImage, "affine_invalid", "unit, direction or origin"),
    "origins": ({"space_origin": "(1,2,3) (4,5,6)"}, UnsuitableImage, "affine_invalid", "export it again with its geometry"),
    "two-steps": ({"space_directions": "(1,0,0) (0,1,0)"}, BrokenImage, "nrrd_header_invalid", "for each spatial axis"),
    "none-step": ({"space_directions": "(1,0,0) none (0,1,0)"}, BrokenImage, "nrrd_header_invalid", "for each spatial axis"),
    "2d-step": ({"space_directions": "(1,0) (0,1) (1,1)"}, BrokenImage, "nrrd_header_invalid", "doesn't have three numbers"),
    "words": ({"space_directions": "(a,0,0) (0,1,0) (0,0,1)"}, BrokenImage, "nrrd_header_invalid", "contains a word"),
    "spacing-0": (
        {"space": None, "space_directions": None, "spacings": "1 0 1", "units": "mm mm mm"},
        BrokenImage,
        "nrrd_header_invalid",
        "aren't three numbers above 0",
    ),
    "no-end": ({"voxels": b"", "end": ""}, BrokenImage, "nrrd_header_invalid", "doesn't end within 65536 bytes"),
    "endless": ({"more": "# x\n" * 2**15}, BrokenImage, "nrrd_header_invalid", "doesn't end within 65536 bytes"),
    "version": ({"magic": "NRRD0006"}, UnsupportedFormat, "unsupported_format", "allowed are PNG, JPEG"),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "kind", "code", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_a_wrong_header_is_named(tmp_path, fields, kind, code, words):
    with pytest.raises(kind) as caught:
        open_image(by_hand(tmp_path / "v", **fields))
    assert caught.value.code == code
    assert words in caught.value.message
    assert str(tmp_path) not in caught.value.message


def test_a_header_that_is_compressed_is_refused(tmp_path):
    path = by_hand(tmp_path / "v.nrrd")
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(UnsupportedFormat, match="compressed as a whole, header included; decompress it") as caught:
        open_image(path)
    assert caught.value.code == "unsupported_format"


def test_the_limits_are_told(tmp_path):
    path = by_hand(tmp_path / "v")
    with pytest.raises(ImageTooLarge, match="24 voxels, but at most 23") as caught:
        open_image(path, guards=Guards(isolated=False, max_pixels=23))
    assert caught.value.limit == 23
    with pytest.raises(ImageTooLarge, match="24 voxels, but at most 20"):
        open_image(path, guards=Guards(isolated=False, max_volume_bytes=20))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_voxels_that_are_not_finite_are_counted(tmp_path, value):
    array = np.zeros((2, 3, 4))
    array[0, 1, :2] = value
    path = write(tmp_path / "v.nrrd", array, np.eye(4))
    with open_image(path) as source, pytest.raises(UnsuitableImage, match="2 voxels are NaN") as caught:
        read_all(source)
    assert caught.value.code == "non_finite_voxels"


def test_integers_that_float32_can_not_hold_are_counted(tmp_path):
    array = np.full((2, 3, 4), 2**24 + 1)
    path = write(tmp_path / "v.nrrd", array, np.eye(4))
    with open_image(path) as source, pytest.raises(UnsuitableImage) as caught:
        read_all(source)
    assert caught.value.code == "value_range"


NOISE = np.random.default_rng(0).integers(0, 255, 24, np.uint8).tobytes() * 99


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda packed: packed[:-8] + b"\0\0\0\0" + packed[-4:], "gzip_corrupt"),
        (lambda packed: packed[:-8], "gzip_corrupt"),
        (lambda packed: packed[: len(packed) // 2], "gzip_corrupt"),
        (lambda packed: b"x" + packed, "gzip_corrupt"),
        (lambda packed: gzip.compress(gzip.decompress(packed) + bytes(10**7)), "gzip_trailing_data"),
        (lambda packed: gzip.compress(gzip.decompress(packed)[:-1]), "nrrd_size_mismatch"),
        (lambda packed: zlib.compress(gzip.decompress(packed)), "gzip_corrupt"),
        (lambda packed: b"", "gzip_corrupt"),
    ],
)
def test_a_damaged_gzip_is_refused(tmp_path, damage, code):
    path = by_hand(tmp_path / "v", damage(gzip.compress(NOISE)), encoding="gzip", sizes="24 9 11")
    with pytest.raises(BrokenImage) as caught, open_image(path) as source:
        read_all(source)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("raw", NOISE + b"garbage"),
        ("gzip", gzip.compress(NOISE) + b"garbage"),
        ("gzip", gzip.compress(NOISE) * 2),
        ("gzip", gzip.compress(NOISE + bytes(99))),
    ],
    ids=["raw", "behind-the-stream", "two-members", "in-the-stream"],
)
def test_what_follows_the_voxels_is_ignored_with_a_remark(tmp_path, encoding, content):
    path = by_hand(tmp_path / "v", content, encoding=encoding, sizes="24 9 11")
    plain = by_hand(tmp_path / "plain", NOISE, encoding="raw", sizes="24 9 11")
    with open_image(path) as source, open_image(plain) as expected:
        np.testing.assert_array_equal(read_all(source), read_all(expected))
        assert source.warnings == ("trailing_data",)
        assert expected.warnings == ()


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_a_lie_of_8_gib_costs_nothing(tmp_path, encoding):
    voxels = gzip.compress(NOISE) if encoding == "gzip" else NOISE
    path = by_hand(tmp_path / "v", voxels, encoding=encoding, type="double", sizes="1024 1024 1024")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BrokenImage) as caught, open_image(path, guards=Guards(isolated=False, max_pixels=2**31)) as source:
        source.read((slice(0, 1),) * 3)
    assert caught.value.code == "nrrd_size_mismatch"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024  # KiB


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_a_process_of_its_own_reads_it_too(tmp_path, encoding):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    path = write(tmp_path / "v.nrrd", array, affine_of((2, 0, 1), (1, -1, -1)), encoding=encoding)
    with open_image(path) as here, open_image(path, guards=UPLOAD) as there:
        np.testing.assert_array_equal(read_all(here), read_all(there))
        np.testing.assert_array_equal(here.geometry.affine, there.geometry.affine)


def test_a_bomb_stops_at_the_ratio(tmp_path):
    size = 2**25
    path = by_hand(tmp_path / "v", gzip.compress(bytes(size)), encoding="gzip", sizes=f"4096 4096 {size >> 24}")
    with pytest.raises(ImageTooLarge) as caught, NrrdSource(path, UPLOAD) as source:
        source.read((slice(0, 1),) * 3)
    assert caught.value.code == "decompressed_too_large"


@given(junk=st.binary(max_size=200))
def test_junk_after_the_magic_is_never_more_than_a_data_error(tmp_path_factory, junk):
    path = tmp_path_factory.getbasetemp() / "junk.nrrd"
    path.write_bytes(b"NRRD0004\n" + junk)
    with pytest.raises(DataError):
        open_image(path)
