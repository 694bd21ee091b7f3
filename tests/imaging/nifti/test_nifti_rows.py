"""Every NIfTI file of the corpus: at the header's check, and through a process of its own, which leaves this one as it was."""

import re
from contextlib import ExitStack

import numpy as np
import pytest

from configs.sections import ClassSection
from disk.process import peak_resident_bytes, reset_peak
from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat
from imaging.guards import LOCAL, UPLOAD
from imaging.nifti.header import checked_header
from imaging.open import open_image
from imaging.writing.band_writer import open_writer
from tests.corpus.nifti_bytes import SHAPE, VALUES, nifti
from tests.corpus.nifti_files import ROWS, SECRETS

GOOD = np.array(VALUES).reshape(SHAPE, order="F").transpose()  # (D, H, W)
CLASSES = [ClassSection(name="background", colour="#000000")]
BY_ID = {row.id: row for row in ROWS}
KINDS = {
    "unsupported_format": UnsupportedFormat,
    "volume_too_large": ImageTooLarge,
    "decompressed_too_large": ImageTooLarge,
    **dict.fromkeys(("gzip_corrupt", "gzip_trailing_data", "empty_file"), BrokenImage),
    **dict.fromkeys(("bad_scaling", "value_range", "non_finite_voxels", "affine_invalid", "affine_sheared"), UnsuitableImage),
    **dict.fromkeys(("dimension_not_supported", "dtype_not_supported"), UnsuitableImage),
}


TWINS = (
    "N07-long", "N09-two-volumes", "N09-garbage", "N09-member-of-the-header", "N09-member-a-hundred-bytes", "N18-both-nan",
    "N18-scl_slope-inf", "N19-qform-code", "N22-0", "N22-0-gzip", "N22-nifti2-0", "N23-dicom", "N27-escapes",
)  # fmt: skip


def parametrized(rows):
    return pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in rows])


def read_all(path, guards):
    with open_image(path, guards=guards) as source:
        pixels = np.concatenate(list(source.blocks()), axis=1)
        return pixels, source.warnings


def check(error, row, folder):
    assert error.code == row.code
    assert type(error) is KINDS.get(row.code, BrokenImage)
    assert str(folder) not in error.message
    assert not any(secret.decode() in error.message for secret in SECRETS)


def test_every_fault_has_its_rows():
    assert len(BY_ID) == len(ROWS)
    numbers = {row.id.split("-")[0] for row in ROWS}
    by_others = {"N25", "N26"}  # what the model expects of intensities and channels isn't a matter of the file
    assert numbers == {f"N{number:02}" for number in range(1, 29)} - by_others


@parametrized(ROWS)
def test_the_headers_check(tmp_path, row):
    path = row.build(tmp_path)
    if row.code is None or row.layer == "reader":
        header = checked_header(path, UPLOAD)
        of_voxels = {"constant_image", "trailing_data"} if path.read_bytes().startswith(b"\x1f\x8b") else {"constant_image"}
        assert set(header.warnings) == {row.warning} - of_voxels - {None}
        return
    with pytest.raises(DataError) as caught:
        checked_header(path, UPLOAD)
    check(caught.value, row, tmp_path)


@parametrized(ROWS)
def test_in_a_process_of_its_own(tmp_path, row):
    path = row.build(tmp_path)
    if row.code is None:
        pixels, warnings = read_all(path, UPLOAD)
        assert np.isfinite(pixels).all()
        assert set(warnings) == {row.warning} - {None}
        return
    with ExitStack() as stack:
        if row.layer == "reader":
            blocks = stack.enter_context(open_image(path, guards=UPLOAD)).blocks()
        with pytest.raises(DataError) as caught:
            list(blocks if row.layer == "reader" else open_image(path, guards=UPLOAD).blocks())
    check(caught.value, row, tmp_path)


@pytest.fixture(scope="module", autouse=True)
def _reads_right_after_them_all(tmp_path_factory):
    yield
    path = tmp_path_factory.mktemp("good") / "good.nii"
    path.write_bytes(nifti())
    np.testing.assert_array_equal(read_all(path, UPLOAD)[0][0], GOOD)


def test_an_empty_file_ends_within_its_header(tmp_path):
    path = tmp_path / "v.nii"
    path.touch()
    with pytest.raises(BrokenImage, match="after 0 of 348 bytes") as caught:
        checked_header(path, UPLOAD)
    assert caught.value.code == "nifti_truncated_header"
    with pytest.raises(BrokenImage) as caught:
        open_image(path, guards=UPLOAD)
    assert caught.value.code == "empty_file"  # before it is known what it would have been


@parametrized(row for row in ROWS if row.id.startswith(("N16", "N17", "N19-agree")) or row.id in TWINS)
def test_twins_read_equal(tmp_path, row):
    np.testing.assert_array_equal(read_all(row.build(tmp_path), LOCAL)[0][0], GOOD)


def test_integers_of_64_bits_that_fit_stay_what_they_are(tmp_path):
    pixels, _ = read_all(BY_ID["N15-uint64-that-fits"].build(tmp_path), UPLOAD)
    assert pixels.dtype == np.uint64
    assert pixels[0, 0, 0, 0] == 2**63


def test_what_is_told_of_a_lie_is_what_is_allowed(tmp_path):
    limits = {"N04-216-tb": 2**29, "N05-over-2-gib-in-fewer-voxels": 2**31, "N05-long-side": 4096}
    for row_id, limit in limits.items():
        with pytest.raises(ImageTooLarge, match=f"at most {limit} are allowed; crop or resample it") as caught:
            open_image(BY_ID[row_id].build(tmp_path), guards=UPLOAD)
        assert caught.value.limit == limit


def test_the_users_own_files_may_be_longer_and_pack_better(tmp_path):
    assert read_all(BY_ID["N05-long-side"].build(tmp_path), LOCAL)[0].shape == (1, 2, 2, 4097)
    assert read_all(BY_ID["N08-64-mib"].build(tmp_path), LOCAL)[0].shape == (1, 512, 256, 512)


@pytest.mark.parametrize(
    ("row_id", "words"),
    [
        ("N01-347-bytes", "ends within its header, after 347 of 348 bytes; send or export the file again"),
        ("N03-pair", "the file isn't a volume in a single NIfTI file"),
        ("N07-short", "declares 772 bytes, but the file holds 771"),
        ("N08-64-mib", "the limit for a file of its size; send it uncompressed"),
        (
            "N09-bomb",
            "the compressed file holds more than 1048576 bytes after the volume; compress the volume alone",
        ),
        ("N10-half", "the compressed volume is cut or damaged; send or export the file again"),
        ("N15-int64", "1 pixels hold integers too large for float32 to hold exactly; convert the image to a type of at most"),
        ("N18-scl_slope-3e+38", "the size of its slope isn't between 1e-12 and 1e+12; export it again without scaling"),
        ("N19-coarse", "voxels that aren't 1e-06 to 100 mm long); export it again with its geometry"),
        ("N20-gantry", "axes aren't at right angles (a tilted gantry, for example); resample it onto a grid"),
        ("N22-351.5", "an offset of the voxels that is inside the header or beyond the file's end; export it again"),
        ("N23-size--16", "impossible sizes, or are more than 1000; export it again without them"),
    ],
)
def test_messages_say_what_to_do(tmp_path, row_id, words):
    with pytest.raises(DataError, match=re.escape(words)), open_image(BY_ID[row_id].build(tmp_path), guards=UPLOAD) as source:
        list(source.blocks())


def test_what_two_files_are_is_told_at_the_headers_check(tmp_path):
    with pytest.raises(
        UnsupportedFormat, match=r"the file isn't a volume in a single NIfTI file; save the volume as \.nii or \.nii\.gz"
    ):
        checked_header(BY_ID["N03-pair"].build(tmp_path), UPLOAD)


def test_a_single_frames_mask_has_three_axes(tmp_path):
    with open_image(BY_ID["N13-4d-of-one"].build(tmp_path), guards=UPLOAD) as source:
        assert source.shape == SHAPE[::-1]
        with open_writer(tmp_path / "mask.nii", source.geometry, format="nifti", classes=CLASSES) as writer:
            writer.write(0, np.zeros(source.shape, np.uint8))
        affine = source.geometry.affine
    with open_image(tmp_path / "mask.nii") as mask:
        assert (mask.shape, mask.warnings) == (SHAPE[::-1], ())
        np.testing.assert_array_equal(mask.geometry.affine, affine)


@parametrized(row for row in ROWS if row.id[:3] in ("N27", "N28"))
def test_texts_are_in_no_mask(tmp_path, row):
    with open_image(row.build(tmp_path), guards=UPLOAD) as source:
        assert not any(secret.decode() in repr(vars(source)) for secret in SECRETS)
        with open_writer(tmp_path / "mask.nii", source.geometry, format="nifti", classes=CLASSES) as writer:
            writer.write(0, np.zeros(source.shape, np.uint8))
    assert not any(secret in (tmp_path / "mask.nii").read_bytes() for secret in SECRETS)


@parametrized(row for row in ROWS if row.id[:3] in ("N04", "N05", "N06", "N08") or row.id in ("N07-1-gib-gzip", "N09-bomb"))
def test_lies_and_bombs_cost_this_process_nothing(tmp_path, row):
    path = row.build(tmp_path)
    reset_peak()
    before = peak_resident_bytes()
    with pytest.raises(DataError), open_image(path, guards=UPLOAD) as source:
        source.read((slice(0, 1),) * 3)
    assert peak_resident_bytes() - before < 20 * 2**20
