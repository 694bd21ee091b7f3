"""Malformed, false and unusual NIfTI files, by fault number N01 to N28, and the expected result of each."""

import gzip
import struct
from collections.abc import Callable
from math import nan, prod
from pathlib import Path

from tests.corpus.nifti_bytes import SHAPE, TYPES, VALUES, extension, nifti, noise, voxels, zeros_gzip
from tests.corpus.rows import Layer, Row

INF = float("inf")
GZIP_MAGIC = b"\x1f\x8b"
SECRETS = (b"DOE^JOHN 19700101", b"MRN 1234567", b"../../etc/passwd")


def _row(
    row_id: str,
    content: Callable[[], bytes],
    code: str | None = None,
    layer: Layer = "header",
    *,
    name: str | None = None,
    warning: str | None = None,
) -> Row:
    def build(folder: Path) -> Path:
        made = content()
        path = folder / (name or f"volume.nii{'.gz' if made.startswith(GZIP_MAGIC) else ''}")
        path.write_bytes(made)
        return path

    return Row(row_id, build, code, layer, warning)


def _rows(number: str, code: str | None, files: dict[str, Callable[[], bytes]], layer: Layer = "header") -> list[Row]:
    return [_row(f"{number}-{name}", content, code, layer) for name, content in files.items()]


def _gzipped(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def _huge(sizes: tuple[int, ...], datatype: int = 64, version: int = 1) -> bytes:
    """Return a file whose header has those sizes and whose body has 1,000 bytes."""
    dim = (len(sizes), *sizes, *[1] * (7 - len(sizes)))
    return nifti(version=version, dim=dim, datatype=datatype, body=bytes(1000))


def _affine(*rows: tuple[float, ...]) -> bytes:
    return nifti(srow_x=rows[0], srow_y=rows[1], srow_z=rows[2])


def _qform(**fields: object) -> bytes:
    return nifti(sform_code=0, qform_code=1, **fields)


def _floats(*values: float, letter: str = "f", code: int = 16) -> bytes:
    return nifti(datatype=code, body=voxels(letter, values=[*values, *VALUES[len(values) :]]))


def _one_sided(size: int) -> bytes:
    """Return a valid file with one long axis."""
    return nifti(dim=(3, size, 2, 2, 1, 1, 1, 1), datatype=2, body=bytes(size * 4))


_NOISY = nifti(dim=(3, 20, 20, 20, 1, 1, 1, 1), datatype=2, body=noise(20**3))
_PACKED = _gzipped(_NOISY)
_IDENTITY = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0))
_XML_BOMB = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><a>&b;</a>'

_HEADERS = [  # N01 to N03
    *_rows(
        "N01",
        "nifti_truncated_header",
        {
            "1-byte": lambda: nifti()[:1],
            "347-bytes": lambda: nifti()[:347],
            "nifti2-539-bytes": lambda: nifti(version=2)[:539],
            "big-endian-347-bytes": lambda: nifti(order=">")[:347],
            "gzip-of-nothing": lambda: _gzipped(b""),
            "gzip-of-347-bytes": lambda: _gzipped(nifti()[:347]),
        },
    ),
    _row("N02-noise", lambda: noise(999), "unsupported_format", name="volume.nii.gz"),
    _row("N02-noise-that-says-gzip", lambda: b"\x1f\x8b\x08" + noise(999), "gzip_corrupt", name="volume.nii.gz"),
    _row("N02-plain-named-gz", nifti, name="volume.nii.gz", warning="name_differs"),
    _row("N02-gzip-named-nii", lambda: _gzipped(nifti()), name="volume.nii", warning="name_differs"),
    _row("N03-sizeof_hdr", lambda: nifti(sizeof_hdr=349), warning="header_size_ignored"),
    *_rows(
        "N03",
        "unsupported_format",
        {
            "magic": lambda: nifti(magic=b"n+9\0"),
            "pair": lambda: nifti(magic=b"ni1\0", vox_offset=0)[:348],
            "analyze": lambda: nifti(magic=b"")[:348],
            "mgh": lambda: struct.pack(">7ih", 1, 5, 6, 7, 1, 4, 0, 1) + bytes(254) + bytes(840),
            "mgz": lambda: _gzipped(struct.pack(">7ih", 1, 5, 6, 7, 1, 4, 0, 1) + bytes(254) + bytes(840)),
            "minc1": lambda: b"CDF\x01" + bytes(2000),
            "minc2-hdf5": lambda: b"\x89HDF\r\n\x1a\n" + bytes(2000),
            "cifti": lambda: nifti(version=2, intent_code=3006, dim=(6, 1, 1, 1, 1, 5, 42, 1)),
        },
    ),
]

_SIZES_THAT_LIE = [  # N04 to N10
    *_rows(
        "N04",
        "volume_too_large",
        {
            "216-tb": lambda: _huge((30000, 30000, 30000)),
            "216-tb-gzip": lambda: _gzipped(_huge((30000, 30000, 30000))),
        },
    ),
    *_rows(
        "N05",
        "volume_too_large",
        {
            "8-gib": lambda: _huge((1024, 1024, 1024)),
            "8-gib-gzip": lambda: _gzipped(_huge((1024, 1024, 1024))),
            "20-gib-gzip": lambda: _gzipped(_huge((1400, 1400, 1400))),
            "over-2-gib-in-fewer-voxels": lambda: _huge((4096, 4096, 17)),
            "long-side": lambda: _one_sided(4097),
        },
    ),
    *_rows(
        "N06",
        "volume_too_large",
        {
            "seven-axes": lambda: _huge((32767,) * 7),
            "2-to-the-64": lambda: _huge((2**32, 2**31, 2), 2, version=2),
            "2-to-the-189": lambda: _huge((2**63 - 1,) * 3, 2, version=2),
        },
    ),
    *_rows(
        "N07",
        "nifti_size_mismatch",
        {"short": lambda: nifti()[:-1], "no-body": lambda: nifti(body=b"")},
    ),
    _row("N07-long", lambda: nifti() + b"\0", warning="trailing_data"),
    _row("N07-twice-as-long", lambda: nifti(body=voxels("h") * 2), warning="trailing_data"),
    *_rows(
        "N07",
        "nifti_size_mismatch",
        {"short-gzip": lambda: _gzipped(nifti()[:-1]), "1-gib-gzip": lambda: _gzipped(_huge((512, 512, 512)))},
        "reader",
    ),
    _row("N08-2-gib", lambda: zeros_gzip(_huge((1290,) * 3, 2)[:352], 352 + 1290**3), "volume_too_large"),
    _row("N08-64-mib", lambda: zeros_gzip(_huge((512, 256, 512), 2)[:352], 352 + 2**26), "decompressed_too_large", "reader"),
    _row("N08-512-mib", lambda: zeros_gzip(_huge((1024, 512, 1024), 2)[:352], 352 + 2**29), "decompressed_too_large", "reader"),
    *_rows(
        "N09",
        "gzip_trailing_data",
        {"bomb": lambda: zeros_gzip(nifti(), 2**28)},
        "reader",
    ),
    *(
        _row(f"N09-{name}", content, warning="trailing_data")
        for name, content in {
            "one-byte-inside": lambda: _gzipped(nifti() + b"\0"),
            "a-mebibyte-inside": lambda: _gzipped(nifti() + bytes(2**20)),
            "two-volumes": lambda: _gzipped(nifti()) + _gzipped(nifti()),
            "garbage": lambda: _gzipped(nifti()) + b"garbage",
            "one-zero": lambda: _gzipped(nifti()) + b"\0",
            "half-a-magic": lambda: _gzipped(nifti()) + GZIP_MAGIC[:1],
        }.items()
    ),
    *_rows(  # block-wise compressors write several members of one stream
        "N09",
        None,
        {
            "empty-second-member": lambda: _gzipped(nifti()) + _gzipped(b""),
            "member-of-the-header": lambda: _gzipped(nifti()[:348]) + _gzipped(nifti()[348:]),
            "member-a-hundred-bytes": lambda: b"".join(_gzipped(nifti()[at : at + 100]) for at in range(0, len(nifti()), 100)),
        },
    ),
    _row("N09-second-member-cut", lambda: _gzipped(nifti()[:500]) + _gzipped(nifti()[500:])[:-9], "gzip_corrupt", "reader"),
    *_rows(
        "N10",
        "gzip_corrupt",
        {
            "flipped": lambda: _PACKED[:-30] + bytes([_PACKED[-30] ^ 64]) + _PACKED[-29:],
            "checksum-of-zeros": lambda: _PACKED[:-8] + bytes(4) + _PACKED[-4:],
            "wrong-length": lambda: _PACKED[:-4] + bytes(4),
            "no-trailer": lambda: _PACKED[:-8],
            "half": lambda: _PACKED[: len(_PACKED) // 2],
        },
        "reader",
    ),
    _row("N10-cut-in-the-header", lambda: _PACKED[:20], "gzip_corrupt"),
]

_MEANINGS = [  # N11 to N18
    *_rows(
        "N11",
        "nifti_bad_dims",
        {
            "one-negative": lambda: nifti(dim=(3, -5, 6, 7, 1, 1, 1, 1)),
            "two-negative": lambda: nifti(dim=(3, -5, 6, -7, 1, 1, 1, 1)),
            "zero": lambda: nifti(dim=(3, 0, 6, 7, 1, 1, 1, 1)),
            "dim0-0": lambda: nifti(dim=(0, *SHAPE, 1, 1, 1, 1)),
            "dim0-minus-1": lambda: nifti(dim=(-1, *SHAPE, 1, 1, 1, 1)),
            "dim0-8": lambda: nifti(dim=(8, *SHAPE, 1, 1, 1, 1)),
            "dim0-9": lambda: nifti(dim=(9, *SHAPE, 1, 1, 1, 1)),
            "nifti2-negative": lambda: nifti(version=2, dim=(3, -(2**63), 6, 7, 1, 1, 1, 1)),
        },
    ),
    _row("N12-1-1-1", lambda: nifti(dim=(3, *[1] * 7), body=bytes(2)), warning="constant_image"),
    _row("N12-1-6-7", lambda: nifti(dim=(3, 1, 6, 7, 1, 1, 1, 1), body=voxels("h", values=VALUES[:42]))),
    _row("N12-6-7-1", lambda: nifti(dim=(3, 6, 7, 1, 1, 1, 1, 1), body=voxels("h", values=VALUES[:42]))),
    _row("N13-4d-of-one", lambda: nifti(dim=(4, *SHAPE, 1, 1, 1, 1)), warning="single_frame"),
    *_rows(
        "N13",
        "dimension_not_supported",
        {
            "1d": lambda: nifti(dim=(1, 210, 1, 1, 1, 1, 1, 1)),
            "4d": lambda: nifti(dim=(4, 5, 6, 1, 7, 1, 1, 1)),
            "5d-vectors": lambda: nifti(dim=(5, 5, 2, 7, 1, 3, 1, 1)),
        },
    ),
    *(
        _row(f"N14-{name}", lambda code=code, bits=bits: nifti(datatype=code, bitpix=bits), "dtype_not_supported")
        for name, code, bits in [
            ("complex64", 32, 64), ("complex128", 1792, 128), ("complex256", 2048, 256), ("rgb", 128, 24), ("rgba", 2304, 32),
            ("float128", 1536, 128), ("bits", 1, 1), ("none", 0, 0), ("unknown", 99, 16),
        ]
    ),
    _row("N15-int64-that-fits", lambda: _floats(-(2**40), 2**24, letter="q", code=1024)),
    _row("N15-uint64-that-fits", lambda: _floats(2**63, 2**24, letter="Q", code=1280)),
    *_rows(
        "N15",
        "value_range",
        {
            "int64": lambda: _floats(2**24 + 1, letter="q", code=1024),
            "int64-largest": lambda: _floats(2**63 - 1, letter="q", code=1024),
            "uint64-largest": lambda: _floats(2**64 - 1, letter="Q", code=1280),
        },
        "reader",
    ),
    *(
        _row(
            f"N16-{name}-nifti{version}-{letter}",
            lambda version=version, order=order, code=code: nifti(version=version, order=order, datatype=code),
        )
        for version in (1, 2)
        for name, order in (("little", "<"), ("big", ">"))
        for code, letter in TYPES.items()
    ),
    *(_row(f"N17-{bits}-for-16", lambda bits=bits: nifti(bitpix=bits), warning="bitpix_ignored") for bits in (0, 8, 7, -1)),
    _row("N18-slope-0", lambda: nifti(scl_slope=0)),
    _row("N18-slope-0-with-inter", lambda: nifti(scl_slope=0, scl_inter=9)),
    _row("N18-slope-0-with-inter-nan", lambda: nifti(scl_slope=0, scl_inter=nan)),
    _row("N18-both-nan", lambda: nifti(scl_slope=nan, scl_inter=nan), warning="scaling_ignored"),
    *(
        _row(f"N18-scl_slope-{value:g}", lambda value=value: nifti(scl_slope=value), warning="scaling_ignored")
        for value in (nan, INF, -INF)
    ),
    *(
        _row(f"N18-{name}-{value:g}", lambda name=name, value=value: nifti(**{name: value}), "bad_scaling")
        for name, value in [("scl_slope", 3e38), ("scl_slope", 1e-40), ("scl_inter", INF), ("scl_inter", nan)]
    ),
]  # fmt: skip

_PLACES = [  # N19 to N21
    *_rows(
        "N19",
        "affine_invalid",
        {
            "nan": lambda: _affine((nan, 0, 0, 0), *_IDENTITY[1:]),
            "inf": lambda: _affine((1, 0, 0, INF), *_IDENTITY[1:]),
            "zero": lambda: _affine(*[(0, 0, 0, 0)] * 3),
            "zero-column": lambda: _affine((0, 0, 0, 0), *_IDENTITY[1:]),
            "singular": lambda: _affine((0, 1, 0, 0), *_IDENTITY[1:]),
            "coarse": lambda: _affine((1e9, 0, 0, 0), *_IDENTITY[1:]),
            "far": lambda: _affine((1, 0, 0, 1e30), *_IDENTITY[1:]),
            "zoom-0": lambda: _qform(pixdim=(1, 0, 1, 1, 1, 1, 1, 1)),
            "zoom-minus-1": lambda: _qform(pixdim=(1, 1, -1, 1, 1, 1, 1, 1)),
            "zoom-nan": lambda: _qform(pixdim=(1, 1, 1, nan, 1, 1, 1, 1)),
            "zoom-1e9": lambda: _qform(pixdim=(1, 1, 1, 1e9, 1, 1, 1, 1)),
            "quaternion": lambda: _qform(quatern=(1, 1, 0)),
            "quaternion-nan": lambda: _qform(quatern=(nan, 0, 0)),
            "neither-and-zoom-0": lambda: nifti(sform_code=0, pixdim=(1, 0, 1, 1, 1, 1, 1, 1)),
        },
    ),
    _row("N19-qform-code", lambda: nifti(qform_code=-1), warning="orientation_code_unknown"),
    _row("N19-sform-code", lambda: nifti(sform_code=6, qform_code=1), warning="orientation_code_unknown"),
    _row("N19-differ", lambda: nifti(qform_code=1, quatern=(0, 0, 1)), warning="sform_qform_differ"),
    _row("N19-differ-by-nan", lambda: nifti(qform_code=1, quatern=(nan, 0, 0)), warning="sform_qform_differ"),
    _row("N19-agree", lambda: nifti(qform_code=1)),
    _row("N19-neither", lambda: nifti(sform_code=0), warning="no_orientation"),
    *_rows(
        "N20",
        "affine_sheared",
        {
            "a-tenth": lambda: _affine((1, 0.1, 0, 0), *_IDENTITY[1:]),
            "gantry": lambda: _affine((1, 0, 0, 0), (0, 1, 0.36, 0), (0, 0, 1, 0)),
        },
    ),
    _row("N20-rounding", lambda: _affine((1, 0.0005, 0, 0), *_IDENTITY[1:])),
    *_rows(
        "N21",
        None,
        {
            "oblique": lambda: _affine((0.8, -0.6, 0, -9), (0.6, 0.8, 0, 3), (0, 0, 2, 5)),
            "lps": lambda: _affine((-1, 0, 0, 0), (0, -1, 0, 0), (0, 0, 1, 0)),
            "asl": lambda: _affine((0, 0, -1, 0), (1, 0, 0, 0), (0, 1, 0, 0)),
            "left-handed": lambda: _qform(pixdim=(-1, 1, 1, 1, 1, 1, 1, 1)),
            "turned-over": lambda: _qform(quatern=(0, 1, 0)),
        },
    ),
]

_STRUCTURE = [  # N22 and N23
    *(
        _row(f"N22-{value:g}", lambda value=value: nifti(vox_offset=value), "nifti_bad_offset")
        for value in (nan, -400, INF, 1e30, 2**33, 351.5, 348, 99999)
    ),
    *(
        _row(f"N22-nifti2-{value}", lambda value=value: nifti(version=2, vox_offset=value), "nifti_bad_offset")
        for value in (-400, 352, 2**40, 2**63 - 1)
    ),
    _row("N22-0", lambda: nifti(vox_offset=0), warning="offset_corrected"),
    _row("N22-minus-0", lambda: nifti(vox_offset=-0.0), warning="offset_corrected"),
    _row("N22-0-gzip", lambda: _gzipped(nifti(vox_offset=0)), warning="offset_corrected"),
    _row("N22-nifti2-0", lambda: nifti(version=2, vox_offset=0), warning="offset_corrected"),
    _row("N22-0-and-too-long", lambda: nifti(vox_offset=0) + bytes(16), "nifti_size_mismatch"),
    _row("N22-gzip-16-mib", lambda: _gzipped(nifti(vox_offset=2**24 + 16)), "nifti_bad_offset"),
    *(
        _row(
            f"N23-size-{size}",
            lambda size=size: nifti(extensions=b"\1\0\0\0" + extension(size) + bytes(32)),
            "nifti_bad_extension",
        )
        for size in (-16, -(2**31), 0, 8, 24, 2**31 - 16, 64)
    ),
    _row("N23-half-a-size", lambda: nifti(extensions=b"\1\0\0\0" + extension(16) + bytes(2)), warning="extension_ignored"),
    _row("N23-size-24-and-24", lambda: nifti(extensions=b"\1\0\0\0" + extension(24) * 2), warning="extension_ignored"),
    _row("N23-100000", lambda: nifti(extensions=b"\1\0\0\0" + extension(16) * 10**5), "nifti_bad_extension"),
    _row("N23-100000-gzip", lambda: _gzipped(nifti(extensions=b"\1\0\0\0" + extension(16) * 10**5)), "nifti_bad_extension"),
    _row("N23-flag-without-any", lambda: nifti(extensions=b"\1\0\0\0")),
    _row("N23-space-without-flag", lambda: nifti(extensions=bytes(4 + 160))),
    _row("N23-xml-bomb", lambda: nifti(extensions=b"\1\0\0\0" + extension(1600, _XML_BOMB, code=4))),
    _row("N23-dicom", lambda: nifti(extensions=b"\1\0\0\0" + extension(1600, bytes(128) + b"DICM" + noise(999), code=2))),
]  # fmt: skip

_VOXELS = [  # N24
    *_rows(
        "N24",
        "non_finite_voxels",
        {
            "one-nan": lambda: _floats(nan),
            "all-nan": lambda: _floats(*[nan] * prod(SHAPE)),
            "infinities": lambda: _floats(INF, -INF),
            "float64-nan": lambda: _floats(nan, letter="d", code=64),
            "too-large-for-float32": lambda: _floats(1e300, letter="d", code=64),
            "scaled-too-large": lambda: nifti(datatype=64, scl_slope=1e11, body=voxels("d", values=[1e30] * prod(SHAPE))),
        },
        "reader",
    ),
    _row("N24-minus-zero-and-denormals", lambda: _floats(-0.0, 1e-45, -1e-42)),
    _row("N24-constant", lambda: nifti(body=voxels("h", values=[7] * prod(SHAPE))), warning="constant_image"),
    _row("N24-all-zero", lambda: nifti(body=bytes(2 * prod(SHAPE))), warning="constant_image"),
    _row("N24-constant-float-gzip", lambda: _gzipped(_floats(*[0.1] * prod(SHAPE))), warning="constant_image"),
]

_TEXTS = [  # N27 and N28
    *_rows(
        "N27",
        None,
        {
            "descrip": lambda: nifti(descrip=SECRETS[0]),
            "escapes": lambda: nifti(descrip=b"\x1b[31m\0\xff\xfe\n" + SECRETS[0], intent_name=SECRETS[1]),
            "extension": lambda: nifti(extensions=b"\1\0\0\0" + extension(64, SECRETS[1])),
            "nifti2": lambda: nifti(version=2, descrip=SECRETS[0], intent_name=SECRETS[1]),
        },
    ),
    *_rows(
        "N28", None, {"aux_file": lambda: nifti(aux_file=SECRETS[2]), "nifti2": lambda: nifti(version=2, aux_file=SECRETS[2])}
    ),
]

ROWS = [*_HEADERS, *_SIZES_THAT_LIE, *_MEANINGS, *_PLACES, *_STRUCTURE, *_VOXELS, *_TEXTS]
