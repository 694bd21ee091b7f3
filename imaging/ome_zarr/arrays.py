"""Metadata of a Zarr array, format 2 or 3: the layout and storage of its chunks, checked before a chunk is read."""

from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from imaging.errors import UnsuitableImage, UnsupportedFormat
from imaging.ome_zarr.metadata import metadata_invalid

MAX_CHUNK_BYTES = 256 * 2**20
IMAGE_DTYPES = ("uint8", "uint16", "int16", "float32")
LABEL_DTYPES = (*IMAGE_DTYPES, "int8", "int32", "uint32")
COMPRESSIONS = ("blosc", "gzip", "lz4", "zlib", "zstd")

_MAX_CHUNKS_IN_SHARD = 2**20
_MAX_AXIS = 2**40
_FORMAT_3_COMPRESSIONS = ("blosc", "gzip", "zstd")

Sizes = tuple[int, ...]
Axes = list[Any]


@dataclass(frozen=True)
class ChunkCodec:
    """Encoding of a chunk: the order of its axes, its byte order, its compression and its checksum.

    Args:
        shape: shape of the chunk in the array's order of axes.
        dtype: type of the elements with its byte order.
        order: axes as they are stored, slowest first.
        compression: one of `COMPRESSIONS`, or None.
        has_checksum: four bytes of CRC-32C follow the chunk.
    """

    shape: Sizes
    dtype: np.dtype[Any]
    order: Sizes
    compression: str | None
    has_checksum: bool = False

    @property
    def size_bytes(self) -> int:
        """Size of the decoded chunk, bytes."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Sharding:
    """Several chunks in one file, with an index of where each lies.

    Args:
        chunks: number of chunks in the file along each axis.
        index_first: the index is at the file's beginning, not at its end.
        index_has_checksum: four bytes of CRC-32C follow the index.
    """

    chunks: Sizes
    index_first: bool
    index_has_checksum: bool


@dataclass(frozen=True)
class ArrayLayout:
    """Layout of an array; the name of a chunk's file is `prefix` and its numbers, joined by `separator`."""

    shape: Sizes
    codec: ChunkCodec
    fill: int | float
    prefix: str
    separator: str
    sharding: Sharding | None = None


class _Compressor(BaseModel):
    id: str


class _ArrayV2(BaseModel):
    zarr_format: Literal[2]
    shape: list[int] = Field(min_length=1, max_length=8)
    chunks: list[int]
    dtype: str
    order: Literal["C", "F"]
    fill_value: Any
    compressor: _Compressor | None
    filters: list[Any] | None = None
    dimension_separator: Literal[".", "/"] = "."


class _Codec(BaseModel):
    name: str
    configuration: dict[str, Any] = {}


class _GridSizes(BaseModel):
    chunk_shape: list[int]


class _Grid(BaseModel):
    name: Literal["regular"]
    configuration: _GridSizes


class _KeyForm(BaseModel):
    separator: Literal[".", "/"] | None = None


class _Keys(BaseModel):
    name: Literal["default", "v2"]
    configuration: _KeyForm = _KeyForm()


class _ArrayV3(BaseModel):
    zarr_format: Literal[3]
    node_type: Literal["array"]
    shape: list[int] = Field(min_length=1, max_length=8)
    data_type: str
    chunk_grid: _Grid
    chunk_key_encoding: _Keys
    fill_value: Any
    codecs: list[_Codec] = Field(min_length=1, max_length=8)
    storage_transformers: list[Any] = []


class _Transpose(BaseModel):
    order: list[int]


class _Bytes(BaseModel):
    endian: Literal["little", "big"] | None = None  # for types of one byte


class _Shards(BaseModel):
    chunk_shape: list[int]
    codecs: list[_Codec] = Field(min_length=1, max_length=8)
    index_codecs: list[_Codec] = Field(min_length=1, max_length=2)
    index_location: Literal["start", "end"] = "end"


def array_layout(content: bytes, *, zarr_format: int, labels: bool) -> ArrayLayout:
    """Return the layout of an array from its `.zarray` (format 2) or `zarr.json` (format 3).

    Args:
        content: content of that file.
        zarr_format: 2 or 3.
        labels: the array holds labels, for which more types of integers are allowed.

    Raises:
        BrokenImage: `zarr_metadata_invalid`.
        UnsuitableImage: `pixel_format_not_supported`.
        UnsupportedFormat: `zarr_codec_not_supported`, `zarr_chunks_too_large`.
    """
    try:
        layout = _layout_v2(content, labels) if zarr_format == 2 else _layout_v3(content, labels)
    except ValidationError as error:
        raise metadata_invalid() from error
    if layout.codec.size_bytes > MAX_CHUNK_BYTES or (layout.sharding and prod(layout.sharding.chunks) > _MAX_CHUNKS_IN_SHARD):
        raise UnsupportedFormat(
            "zarr_chunks_too_large",
            f"a chunk of the OME-Zarr may have at most {MAX_CHUNK_BYTES} bytes, a shard {_MAX_CHUNKS_IN_SHARD} chunks; "
            "save it with chunks of 512 or 64 pixels a side",
        )
    return layout


def _layout_v2(content: bytes, labels: bool) -> ArrayLayout:
    array = _ArrayV2.model_validate_json(content)
    _check_sizes(array.shape, array.chunks)
    dtype = _dtype(array.dtype, labels)
    compression = array.compressor and array.compressor.id
    if array.filters or compression not in (None, *COMPRESSIONS):
        raise _codec_not_supported()
    order = range(len(array.shape)) if array.order == "C" else reversed(range(len(array.shape)))
    codec = ChunkCodec(tuple(array.chunks), dtype, tuple(order), compression)
    fill = 0 if array.fill_value is None else array.fill_value
    return ArrayLayout(tuple(array.shape), codec, _fill(fill, dtype), "", array.dimension_separator)


def _layout_v3(content: bytes, labels: bool) -> ArrayLayout:
    array = _ArrayV3.model_validate_json(content)
    chunks, codecs, sharding = array.chunk_grid.configuration.chunk_shape, array.codecs, None
    _check_sizes(array.shape, chunks)
    if array.storage_transformers:
        raise _codec_not_supported()
    if codecs[0].name == "sharding_indexed":
        chunks, codecs, sharding = _sharding(chunks, codecs)
    dtype = _dtype(array.data_type, labels)
    codec = _codec_v3(tuple(chunks), dtype, codecs)
    is_default = array.chunk_key_encoding.name == "default"
    separator = array.chunk_key_encoding.configuration.separator or ("/" if is_default else ".")
    prefix = f"c{separator}" if is_default else ""
    return ArrayLayout(tuple(array.shape), codec, _fill(array.fill_value, dtype), prefix, separator, sharding)


def _sharding(shard: list[int], codecs: list[_Codec]) -> tuple[list[int], list[_Codec], Sharding]:
    """Return the inner chunks' shape and codecs, and how a shard of that size holds them."""
    if len(codecs) != 1:
        raise _codec_not_supported()
    shards = _Shards.model_validate(codecs[0].configuration)
    _check_sizes(shard, shards.chunk_shape)
    if any(whole % part for whole, part in zip(shard, shards.chunk_shape, strict=True)):
        raise metadata_invalid()
    names = [codec.name for codec in shards.index_codecs]
    if names not in (["bytes"], ["bytes", "crc32c"]) or _endian(shards.index_codecs[0]) != "little":
        raise _codec_not_supported()
    counts = tuple(whole // part for whole, part in zip(shard, shards.chunk_shape, strict=True))
    return shards.chunk_shape, shards.codecs, Sharding(counts, shards.index_location == "start", "crc32c" in names)


def _codec_v3(shape: Sizes, dtype: np.dtype[Any], codecs: list[_Codec]) -> ChunkCodec:
    """Return the codec of a list of codecs: [transpose] bytes [a compression] [crc32c], in this order."""
    rest = list(codecs)
    order = tuple(range(len(shape)))
    if rest[0].name == "transpose":
        order = tuple(_Transpose.model_validate(rest.pop(0).configuration).order)
        if sorted(order) != list(range(len(shape))):
            raise metadata_invalid()
    if not rest or rest[0].name != "bytes":
        raise _codec_not_supported()
    endian = _endian(rest.pop(0))
    if endian is None and dtype.itemsize > 1:
        raise metadata_invalid()
    dtype = dtype.newbyteorder(">" if endian == "big" else "<")
    compression = rest.pop(0).name if rest and rest[0].name in _FORMAT_3_COMPRESSIONS else None
    has_checksum = [codec.name for codec in rest] == ["crc32c"]
    if rest and not has_checksum:
        raise _codec_not_supported()
    return ChunkCodec(shape, dtype, order, compression, has_checksum)


def _endian(codec: _Codec) -> str | None:
    return _Bytes.model_validate(codec.configuration).endian


def _check_sizes(shape: list[int], chunks: list[int]) -> None:
    if len(chunks) != len(shape) or not all(1 <= size <= _MAX_AXIS for size in (*shape, *chunks)):
        raise metadata_invalid()


def _dtype(name: str, labels: bool) -> np.dtype[Any]:
    allowed = LABEL_DTYPES if labels else IMAGE_DTYPES
    # A type's name in format 3, and its codes in format 2, such as <u2.
    codes = {code: value for value in allowed for code in (value, *(f"{order}{np.dtype(value).str[1:]}" for order in "|<>"))}
    if name not in codes:
        raise UnsuitableImage(
            "pixel_format_not_supported",
            f"the OME-Zarr's pixel type is not supported; allowed are {', '.join(allowed)}: convert the pixels",
        )
    return np.dtype(codes[name]).newbyteorder(">" if name.startswith(">") else "<")


def _fill(value: Any, dtype: np.dtype[Any]) -> int | float:
    """Return the value of chunks that have no file."""
    if dtype.kind == "f" and value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    if not isinstance(value, int | float):
        raise metadata_invalid()
    if dtype.kind == "f":
        return float(value)
    limits = np.iinfo(dtype)
    if not limits.min <= value <= limits.max or value != int(value):  # also refuses NaN and infinity
        raise metadata_invalid()
    return int(value)


def _codec_not_supported() -> UnsupportedFormat:
    return UnsupportedFormat(
        "zarr_codec_not_supported",
        f"the OME-Zarr's chunks have an unsupported encoding; allowed are {', '.join(COMPRESSIONS)} or no compression, "
        "without filters, with or without shards: save it again with one of them",
    )
