"""DICOM files with odd headers, written and edited element by element, and pydicom as their reference reader."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel as nib
import numpy as np
import pydicom
from odd_files import DIFFERENT, Format, OddFile, Pixels, Properties, choose, oddities, variants
from pydicom import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from pydicom.valuerep import format_number_as_ds

ROWS, COLUMNS, FRAMES = 6, 5, 4
_KINDS = {
    "MR": MRImageStorage, "CT": CTImageStorage, "PET": PositronEmissionTomographyImageStorage,
    "secondary capture": SecondaryCaptureImageStorage, "radiograph": "1.2.840.10008.5.1.4.1.1.1",
    "ultrasound": "1.2.840.10008.5.1.4.1.1.6.1",
}  # fmt: skip
_KIND_REFUSAL = "dicom_kind_not_supported"
_UNREAD = "pixel_format_not_supported"
_STEP_MM = 2.5

PROPERTIES: Properties = {
    "kind": variants(
        "MR",
        [(name, name, *(() if name in ("CT", "PET") else (_KIND_REFUSAL,))) for name in _KINDS if name != "MR"],
    ),
    "images": variants(
        "one slice", [("enhanced", "enhanced"), ("several without functional groups", "frames", "dicom_geometry_missing")]
    ),
    "syntax": variants(
        ExplicitVRLittleEndian,
        [
            ("implicit", ImplicitVRLittleEndian),
            ("big-endian", ExplicitVRBigEndian),
            ("RLE", RLELossless),
            ("JPEG lossless", JPEGLosslessSV1),
            ("JPEG baseline", JPEGBaseline8Bit),
            ("JPEG-LS", JPEGLSLossless),
            ("JPEG 2000", JPEG2000Lossless),
            ("deflated", DeflatedExplicitVRLittleEndian, "dicom_compression_not_supported"),
        ],
    ),
    "allocated": variants(16, [("8 bits", 8), ("32 bits", 32), ("64 bits", 64), ("1 bit", 1)]),
    "stored": variants(0, [("4 bits fewer", 4), ("1 bit fewer", 1)]),
    "high bit": variants("right", [("highest", "highest"), ("0", 0), ("above the bits allocated", 64), ("missing", None)]),
    "signed": variants(0, [("yes", 1)]),
    "values": variants("fit", [("bits above those stored", "above", f"{_UNREAD} value_range")]),
    "padding": variants(
        b"",
        [
            ("2 bytes", bytes(2)),
            ("a row", bytes(12)),
            ("several images", bytes(512), DIFFERENT),
            ("20 bytes of FF", b"\xff" * 20),
        ],
    ),
    "cut": variants(0, [("10 bytes behind the pixels' length", 10)]),
    "preamble": variants("yes", [("missing", "no"), ("preamble and meta information missing", "bare"), ("of text", "text")]),
    "rescale": variants(
        None,
        [
            ("1, 0", ("1", "0")),
            ("2, -1024", ("2", "-1024")),
            ("0.0001, 0", ("0.0001", "0")),
            ("-1, 100", ("-1", "100")),
            ("0, 0", ("0", "0"), "bad_scaling"),
            ("empty", ("", "")),
            ("intercept only", (None, "-1024")),
            ("a modality LUT", "lut", _UNREAD),
        ],
    ),
    "photometric": variants(
        "MONOCHROME2",
        [
            ("MONOCHROME1", "MONOCHROME1"),
            ("RGB", "RGB", _UNREAD),
            ("PALETTE COLOR", "PALETTE COLOR", _UNREAD),
            ("with spaces", "MONOCHROME2   "),
        ],
    ),
    "frames": variants("right", [("'1'", "one"), ("empty", "empty")]),
    "geometry": variants(
        "right",
        [
            ("oblique", "oblique"),
            ("directions of 3 digits", "rounded"),
            ("directions of length 1.01", "long", "affine_invalid"),
            ("without position", "no position", "dicom_geometry_missing"),
            ("without thickness", "no thickness", "dicom_spacing_missing"),
            ("thickness 0", "flat", "dicom_spacing_missing"),
            ("without pixel spacing", "no spacing", "dicom_geometry_missing"),
        ],
    ),
    "extra": variants(
        "nothing",
        [
            ("private elements", "private"),
            ("an invalid UID", "uid"),
            ("an unknown character set", "charset"),
            ("a value of odd length", "odd"),
            ("an overlay", "overlay"),
            ("padding at the end (FFFC,FFFC)", "trailing"),
            ("a sequence of undefined length", "sequence"),
            ("an icon with pixels", "icon"),
            ("bytes that are no element at the end", "garbage"),
            ("group lengths", "groups"),
            ("a smallest value of the wrong sign", "smallest"),
        ],
    ),
    "type of pixels": variants("OW", [("OB", "OB")]),
    "fragments": variants("one", [("several for a frame", "several"), ("without offset table", "no table")]),
}


def write(folder: Path, seed: int) -> OddFile:
    """Write the file of a seed."""
    path, chance = folder / f"{seed}.dcm", random.Random(seed)  # noqa: S311
    for attempt in range(1000):
        chosen = choose(PROPERTIES, chance)
        values = {name: variant.value for name, variant in chosen.items()}
        try:
            _write(values, np.random.default_rng(seed + attempt), path)
        except Exception:  # noqa: BLE001, S112  (the encoders and pydicom cannot write every combination)
            continue
        return OddFile(path, oddities(chosen, PROPERTIES))
    raise RuntimeError("no combination can be written")


def _write(values: dict[str, Any], generator: np.random.Generator, path: Path) -> None:
    dataset = _described(values)
    stored = _add_pixels(dataset, values, generator)
    _add_geometry(dataset, values, len(stored))
    _add_rescale(dataset, values, len(stored))
    if values["extra"] in EXTRAS:
        EXTRAS[values["extra"]](dataset)
    content = _file_bytes(dataset, values, path)
    if values["extra"] == "garbage":
        content += b"\0\1\2"
    path.write_bytes(content)


def _described(values: dict[str, Any]) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = EnhancedMRImageStorage if values["images"] == "enhanced" else _KINDS[values["kind"]]
    dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = (
        generate_uid(entropy_srcs=[name]) for name in ("instance", "study", "series", "frame")
    )
    dataset.Modality, dataset.PatientName, dataset.PatientID = "OT", "ODD^PATIENT", "1"
    return dataset


def _add_pixels(dataset: Dataset, values: dict[str, Any], generator: np.random.Generator) -> Pixels:
    """Add the pixels and the elements that describe them; return the pixels, (frames, rows, columns[, 3])."""
    allocated = values["allocated"]
    bits = max(1, allocated - values["stored"])
    frames = 1 if values["images"] == "one slice" else FRAMES
    samples = 3 if values["photometric"] == "RGB" else 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if values["signed"] else (0, 2**bits)
    low, high = max(low, -1000), min(high, 1000)
    shape = (frames, ROWS, COLUMNS, samples)[: 4 if samples == 3 else 3]
    stored = generator.integers(low, high, shape).astype(f"{'i' if values['signed'] else 'u'}{max(1, allocated // 8)}")
    if values["values"] == "above":
        stored |= np.array(1 << (allocated - 1)).astype(stored.dtype)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = samples, values["photometric"]
    if samples == 3:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = ROWS, COLUMNS
    dataset.BitsAllocated, dataset.BitsStored, dataset.PixelRepresentation = allocated, bits, values["signed"]
    dataset.HighBit = {"right": bits - 1, "highest": allocated - 1}.get(values["high bit"], values["high bit"])
    if dataset.HighBit is None:
        del dataset.HighBit
    if frames > 1 or values["frames"] == "one":
        dataset.NumberOfFrames = frames
    elif values["frames"] == "empty":
        dataset.NumberOfFrames = None
    _encode(dataset, stored, values)
    return stored


def _encode(dataset: Dataset, stored: Pixels, values: dict[str, Any]) -> None:
    syntax = values["syntax"]
    if not syntax.is_encapsulated:
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        content = stored.astype(stored.dtype.newbyteorder(order)).tobytes()
        if values["allocated"] == 1:
            content = np.packbits(stored.ravel(), bitorder="little").tobytes()
        content += b"\0" * (len(content) % 2) + values["padding"]
        if order == ">" and values["type of pixels"] == "OW" and stored.itemsize == 1:
            content = np.frombuffer(content, "<u2").byteswap().tobytes()
        dataset.PixelData = content
        dataset["PixelData"].VR = values["type of pixels"] if stored.itemsize == 1 else "OW"
        return
    unsigned = stored.view(f"u{stored.itemsize}")
    encoders: dict[str, Callable[[Pixels], bytes]] = {
        JPEGLosslessSV1: lambda image: imagecodecs.ljpeg_encode(image, bitspersample=8 * image.itemsize),
        JPEGBaseline8Bit: lambda image: imagecodecs.jpeg8_encode(image, level=95),
        JPEGLSLossless: imagecodecs.jpegls_encode,
        JPEG2000Lossless: lambda image: imagecodecs.jpeg2k_encode(image, level=0, codecformat="j2k"),
    }
    if syntax == RLELossless:
        dataset.file_meta = FileMetaDataset()
        dataset.PixelData = stored.tobytes()
        dataset.compress(RLELossless, stored, generate_instance_uid=False)
        return
    packed = [encoders[syntax](image) for image in (stored if syntax == JPEG2000Lossless else unsigned)]
    several = 2 if values["fragments"] == "several" else 1
    dataset.PixelData = encapsulate(packed, fragments_per_frame=several, has_bot=values["fragments"] != "no table")
    dataset["PixelData"].VR = "OB"


def _add_geometry(dataset: Dataset, values: dict[str, Any], frames: int) -> None:
    kind = values["geometry"]
    along_row, along_column = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    if kind in ("oblique", "rounded"):
        along_row, along_column = np.array([0.8, 0.6, 0]), np.array([-0.48, 0.64, -0.6])
    if kind == "rounded":
        along_row, along_column = np.array([0.801, 0.599, 0]), np.array([-0.480, 0.641, -0.599])
    if kind == "long":
        along_row = along_row * 1.01
    normal = np.cross(along_row, along_column)
    positions = [np.array([-10.0, 20, 5]) + index * _STEP_MM * normal for index in reversed(range(frames))]
    place = {"ImageOrientationPatient": _decimals([*along_row, *along_column])}
    measures: dict[str, Any] = {"PixelSpacing": ["0.7", "0.9"], "SliceThickness": str(_STEP_MM)}
    if kind == "no thickness":
        del measures["SliceThickness"]
    if kind == "flat":
        measures["SliceThickness"] = "0"
    if kind == "no spacing":
        del measures["PixelSpacing"]
    if values["images"] != "enhanced":
        _set(dataset, place | measures | ({} if kind == "no position" else {"ImagePositionPatient": _decimals(positions[0])}))
        return
    shared = {"PixelMeasuresSequence": [_set(Dataset(), measures)], "PlaneOrientationSequence": [_set(Dataset(), place)]}
    dataset.SharedFunctionalGroupsSequence = [_set(Dataset(), shared)]
    planes = [_set(Dataset(), {} if kind == "no position" else {"ImagePositionPatient": _decimals(one)}) for one in positions]
    dataset.PerFrameFunctionalGroupsSequence = [_set(Dataset(), {"PlanePositionSequence": [plane]}) for plane in planes]


def _add_rescale(dataset: Dataset, values: dict[str, Any], frames: int) -> None:
    rescale = values["rescale"]
    if rescale == "lut":
        table = Dataset()
        table.add_new("LUTDescriptor", "US", [1000, 0, 16])
        table.add_new("ModalityLUTType", "LO", "HU")
        table.add_new("LUTData", "US", list(range(1000, 2000)))
        dataset.ModalityLUTSequence = [table]
        return
    if rescale is None:
        return
    slope, intercept = rescale
    elements = {"RescaleIntercept": intercept, "RescaleType": "HU"} | ({} if slope is None else {"RescaleSlope": slope})
    if values["images"] != "enhanced":
        _set(dataset, elements)
        return
    for frame in range(frames):
        own = elements | ({"RescaleIntercept": str(float(intercept) + frame)} if intercept else {})
        dataset.PerFrameFunctionalGroupsSequence[frame].PixelValueTransformationSequence = [_set(Dataset(), own)]


def _file_bytes(dataset: Dataset, values: dict[str, Any], path: Path) -> bytes:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = values["syntax"]
    dataset.file_meta.MediaStorageSOPClassUID, dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, "1.2.3"
    if "PixelData" in dataset:
        dataset["PixelData"].is_undefined_length = values["syntax"].is_encapsulated
    bare = values["preamble"] == "bare" and values["syntax"] in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    if bare:
        del dataset.file_meta
        is_implicit = values["syntax"] == ImplicitVRLittleEndian
        pydicom.dcmwrite(path, dataset, implicit_vr=is_implicit, little_endian=True, enforce_file_format=False)
        return path.read_bytes()
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    content = path.read_bytes()
    if values["preamble"] == "no":
        return content[132:]
    return b"II*\0 a TIFF as well".ljust(128, b"\0") + content[128:] if values["preamble"] == "text" else content


def _add_private(dataset: Dataset) -> None:
    dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", b"SV10\4\3\2\1" + bytes(50))


def _add_icon(dataset: Dataset) -> None:
    icon = {"Rows": 2, "Columns": 2, "BitsAllocated": 8, "SamplesPerPixel": 1, "PixelData": bytes(4)}
    dataset.IconImageSequence = [_set(Dataset(), icon)]
    dataset.IconImageSequence[0]["PixelData"].VR = "OB"


def _add_sequence(dataset: Dataset) -> None:
    dataset.ReferencedImageSequence = [_set(Dataset(), {"ReferencedSOPInstanceUID": "1.2.3"})]
    dataset["ReferencedImageSequence"].is_undefined_length = True


def _add_overlay(dataset: Dataset) -> None:
    elements = {
        0x10: ("US", ROWS),
        0x11: ("US", COLUMNS),
        0x40: ("CS", "G"),
        0x50: ("SS", [1, 1]),
        0x100: ("US", 1),
        0x102: ("US", 0),
    }
    for element, (vr, value) in elements.items():
        dataset.add_new((0x6000, element), vr, value)
    dataset.add_new((0x6000, 0x3000), "OW", bytes(4))


EXTRAS: dict[str, Callable[[Dataset], None]] = {
    "private": _add_private,
    "uid": lambda dataset: dataset.add_new("ReferencedFrameOfReferenceUID", "UI", "1.02.x"),
    "charset": lambda dataset: setattr(dataset, "SpecificCharacterSet", "ISO_IR 999"),
    "odd": lambda dataset: dataset.add_new((0x0008, 0x0080), "LO", b"odd"),
    "overlay": _add_overlay,
    "trailing": lambda dataset: dataset.add_new((0xFFFC, 0xFFFC), "OB", bytes(64)),
    "sequence": _add_sequence,
    "icon": _add_icon,
    "groups": lambda dataset: dataset.add_new((0x0008, 0x0000), "UL", 100),
    "smallest": lambda dataset: dataset.add_new((0x0028, 0x0106), "SS", -5),
}


def read(path: Path) -> Pixels:
    """Return pydicom's pixels of the whole volume, (1, superior, anterior, right), as its modality's values."""
    dataset = pydicom.dcmread(path, force=True)
    stored = dataset.pixel_array
    if dataset.SamplesPerPixel != 1:
        return stored[None]  # colour, which Overtile refuses
    stored = stored.reshape(-1, ROWS, COLUMNS)
    if dataset.PhotometricInterpretation.strip() == "MONOCHROME1":
        stored = (-1 if dataset.PixelRepresentation else 2**dataset.BitsStored - 1) - stored.astype(np.int64)
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or [None] * len(stored)
    scaled = [_rescaled(image, dataset, group) for image, group in zip(stored, groups, strict=True)]
    places = [group.PlanePositionSequence[0] if group and "PlanePositionSequence" in group else dataset for group in groups]
    shared = dataset.get("SharedFunctionalGroupsSequence")
    directions = shared[0].PlaneOrientationSequence[0] if shared else dataset
    if "ImagePositionPatient" not in places[0] or "ImageOrientationPatient" not in directions:
        return np.stack(scaled)[None]
    row, column = np.split(np.array(directions.ImageOrientationPatient, float), 2)
    normal = np.cross(row, column)
    order = np.argsort([np.array(place.ImagePositionPatient, float) @ normal for place in places])
    affine = np.eye(4)
    affine[:3, :3] = (np.stack([row, column, normal], 1).T * (-1, -1, 1)).T
    volume = np.stack(scaled)[order].transpose(2, 1, 0)  # (column, row, slice)
    return nib.orientations.apply_orientation(volume, nib.orientations.io_orientation(affine)).transpose()[None]


def _rescaled(image: Pixels, dataset: Dataset, group: Dataset | None) -> Pixels:
    own = group.get("PixelValueTransformationSequence") if group else None
    holder = own[0] if own else dataset
    if "ModalityLUTSequence" in dataset:
        return apply_modality_lut(image, dataset)
    slope, intercept = holder.get("RescaleSlope"), holder.get("RescaleIntercept")
    if slope in (None, "") and intercept in (None, ""):
        return image
    return image * (1.0 if slope in (None, "") else float(slope)) + (0.0 if intercept in (None, "") else float(intercept))


def _decimals(values: Any) -> list[str]:
    return [format_number_as_ds(float(value)) for value in values]


def _set(dataset: Dataset, elements: dict[str, Any]) -> Dataset:
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


FORMAT = Format(write, read, "pydicom")
