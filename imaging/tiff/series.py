"""Selection of a TIFF's first image and its pyramid's levels, checked, among all pages of the file."""

import re
from itertools import pairwise
from math import prod

from tifffile import TiffFile, TiffPageSeries

from imaging.errors import BrokenImage, DataError, UnsuitableImage
from imaging.source import ReadOptions
from imaging.tiff.directories import truncated

CHANNEL_AXES = "SCQ"  # samples, channels, and tifffile's letter for an unnamed first axis

_PLANE_AXES = "YX"
_DEPTH_AXIS = "Z"
_NAMELESS_AXES = "QI"  # tifffile's letters for an axis of an array and for pages, of which nothing is said
_AXES_SHOWN = str.maketrans("QIST", "????")
_PLAIN_KINDS = ("generic", "shaped", "uniform")  # pages without metadata of their order
_ROUNDING_PX = 2
_ROUNDING_SHARE = 0.02
_SEVERAL_FILES = re.compile("<(?:[A-Za-z]+:)?(?:UUID|BinaryOnly)[ >]")  # OME's elements that name other files
_SEVERAL = {
    "T": "a time series; save one time point, or say what the axis is, with --axes ZYX or a column axes in cases.csv",
    "I": "pages of equal size whose axis it doesn't name; if they are slices say so, with --axes ZYX or a column axes in "
    "cases.csv, or save one page",
}


def image_levels(tiff: TiffFile, options: ReadOptions) -> list[TiffPageSeries]:
    """Return the first image's levels, finest first; thumbnails, labels, overviews and further images are ignored.

    Args:
        tiff: the open file.
        options: `axes` and `dimensions` name axes that the file doesn't.

    Raises:
        BrokenImage: `tiff_broken`, `tiff_truncated` if a page is missing.
        UnsuitableImage: `several_files`, `dimension_not_supported`, `axes_invalid`, `pyramid_not_supported`.
    """
    if not tiff.series:
        raise broken()
    first = tiff.series[0]
    if tiff.is_ome and first.kind not in ("ome", "imagej"):
        if not _SEVERAL_FILES.search(tiff.ome_metadata or ""):
            raise broken()
        raise UnsuitableImage("several_files", "the TIFF is one of several that belong together; save the image as one file")
    first = _with_named_axes(first, options)
    _check_axes(first)
    if first.kind == "ome" and any(axes_of(other) == axes_of(first) for other in tiff.series[1:]):  # not labels and overviews
        raise UnsuitableImage(
            "dimension_not_supported", f"the TIFF has {len(tiff.series)} images, several positions; save one of them as a file"
        )
    levels = sorted(_family([first, *tiff.series[1:]]), key=lambda level: prod(plane_of(level)), reverse=True)
    check_pyramid([plane_of(level) for level in levels])
    for level in levels:
        _check_complete(level, tiff.filehandle.size)
    return levels


def _with_named_axes(series: TiffPageSeries, options: ReadOptions) -> TiffPageSeries:
    """Return the series with the axes that the user gives; where a volume is needed, its one nameless axis is depth.

    Raises:
        UnsuitableImage: `axes_invalid`.
    """
    axes = "".join(axis for axis, _ in axes_of(series))
    names = _given_names(axes, series, options.axes) if options.axes else _volume_names(axes, series, options.dimensions)
    if names == axes:
        return series
    rest = iter(names)
    pairs = zip(series.axes, series.shape, strict=True)
    renamed = "".join(next(rest) if size != 1 or axis in _PLANE_AXES else axis for axis, size in pairs)
    return TiffPageSeries(
        list(series.pages),
        series.shape,
        series.dtype,
        renamed,
        parent=series.parent,
        kind=series.kind,
        truncated=series.is_truncated,
    )


def _given_names(axes: str, series: TiffPageSeries, names: str) -> str:
    is_sound = set(_PLANE_AXES) <= set(names) <= set(_PLANE_AXES + _DEPTH_AXIS + "C") and len(set(names)) == len(names)
    if not is_sound or len(names) != len(axes) or [names.index(axis) for axis in "YX"] != [axes.index(axis) for axis in "YX"]:
        raise UnsuitableImage(
            "axes_invalid",
            f"the axes {names} do not fit a TIFF of the size {tuple(series.shape)}; give a letter of Z, C, Y and X for each "
            f"axis longer than 1, with Y and X where the file has its rows and columns: {axes.translate(_AXES_SHOWN)}",
        )
    return names


def _volume_names(axes: str, series: TiffPageSeries, dimensions: int | None) -> str:
    """Return the axes where the image should be a volume; tifffile takes three or four nameless planes for samples."""
    if dimensions != 3 or _DEPTH_AXIS in axes:
        return axes
    nameless = [axis for axis in axes if axis in _NAMELESS_AXES]
    if not nameless and axes[0] == "S" and series.kind in _PLAIN_KINDS and series.dataoffset is not None:
        nameless = ["S"]
    return axes.replace(nameless[0], _DEPTH_AXIS) if len(nameless) == 1 else axes


def plane_of(series: TiffPageSeries) -> tuple[int, int]:
    """Return the size (H, W)."""
    sizes = dict(axes_of(series))
    return sizes["Y"], sizes["X"]


def shape_of(series: TiffPageSeries) -> tuple[int, ...]:
    """Return the size S: (D, H, W) for Z stacks, else (H, W)."""
    sizes = dict(axes_of(series))
    return (sizes[_DEPTH_AXIS], *plane_of(series)) if _DEPTH_AXIS in sizes else plane_of(series)


def channels_of(series: TiffPageSeries) -> int:
    """Return the number of values of a pixel."""
    return prod(size for axis, size in axes_of(series) if axis in CHANNEL_AXES)


def axes_of(series: TiffPageSeries) -> list[tuple[str, int]]:
    """Return axes and sizes in the file's order, without those of size 1 other than Y and X."""
    pairs = zip(series.axes, series.shape, strict=True)
    return [(axis, int(size)) for axis, size in pairs if size != 1 or axis in _PLANE_AXES]


def check_pyramid(shapes: list[tuple[int, int]]) -> None:
    """Check that each level is smaller than the previous one, by one factor of level 0 for both axes, within rounding.

    Raises:
        UnsuitableImage: `pyramid_not_supported`.
    """
    smaller = all(prod(after) < prod(before) for before, after in pairwise(shapes))
    if not smaller or not all(_same_aspect(shape, shapes[0]) for shape in shapes):
        raise UnsuitableImage(
            "pyramid_not_supported",
            f"the pyramid's levels are {shapes}; each must be the first one, made smaller by one factor for both sides: "
            "save the image with a new pyramid",
        )


def broken() -> DataError:
    """Return the error for a file that tifffile can't parse."""
    return BrokenImage("tiff_broken", "the TIFF's structure can't be read; export the image again")


def _check_axes(series: TiffPageSeries) -> None:
    axes = [axis for axis, _ in axes_of(series)]
    others = [axis for axis in axes if axis not in _PLANE_AXES + _DEPTH_AXIS]
    whole = len(set(axes)) == len(axes) and set(_PLANE_AXES) <= set(axes)
    if not whole or len(others) > 1 or not set(others) <= set(CHANNEL_AXES):
        what = next((_SEVERAL[axis] for axis in others if axis in _SEVERAL), "more axes than one image; save one position")
        raise UnsuitableImage(
            "dimension_not_supported",
            f"the TIFF has the size {tuple(series.shape)}, {what}: 2D images and Z stacks are read, with channels",
        )


def _family(series: list[TiffPageSeries]) -> list[TiffPageSeries]:
    """Return the first image and its other sizes; tifffile itself recognises only ordered pages of one factor."""
    first = series[0]
    if first.kind not in _PLAIN_KINDS:
        return list(first.levels)
    others = [level for one in series for level in one.levels if level is not first and _is_like(level, first)]
    alike = [level for level in others if _same_aspect(plane_of(level), plane_of(first))]
    flagged = [level for level in others if level not in alike and (level.keyframe.is_reduced or level.keyframe.is_subifd)]
    return [first, *alike, *flagged]


def _is_like(series: TiffPageSeries, first: TiffPageSeries) -> bool:
    """Return True if the tiles and pixels are of the first one's kind, as those of levels are."""
    page, model = series.keyframe, first.keyframe
    rest = [pair for pair in axes_of(series) if pair[0] not in _PLANE_AXES]
    tiled = page.is_tiled or page.is_subifd
    same = (page.dtype, page.photometric) == (model.dtype, model.photometric)
    return tiled and same and rest == [pair for pair in axes_of(first) if pair[0] not in _PLANE_AXES]


def _same_aspect(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return True if one size is the other divided by one factor for both sides, within rounding."""
    small, large = sorted((one, other), key=prod)
    height = large[0] * small[1] / large[1]
    return abs(small[0] - height) <= max(_ROUNDING_PX, _ROUNDING_SHARE * small[0]) and small[0] <= large[0]


def _check_complete(series: TiffPageSeries, size: int) -> None:
    if series.dataoffset is not None:
        if series.dataoffset + series.nbytes > size:
            raise truncated()
        return
    pages = [page for page in series.pages if page is not None]
    if len(pages) < len(series.pages):
        raise truncated()
    segments = len(series.keyframe.dataoffsets)
    if any(len(page.dataoffsets) != segments or len(page.databytecounts) != segments for page in pages):
        raise broken()
    in_pages = prod(size for axis, size in axes_of(series) if axis not in _PLANE_AXES)
    if in_pages != len(pages) * series.keyframe.samplesperpixel:
        raise broken()
