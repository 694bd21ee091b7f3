"""DICOM series, multi-frame files and slides, written element by element."""

import numpy as np
from pydicom import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    VLWholeSlideMicroscopyImageStorage,
    generate_uid,
)
from pydicom.valuerep import format_number_as_ds

PATIENT = "CANARY^PATIENT"
KINDS = {"MR": MRImageStorage, "CT": CTImageStorage}


def write_series(folder, voxels, affine, *, edit=None, name="{:03}.dcm", modality="MR"):
    """One file a slice of (column, row, slice) voxels that lie as a NIfTI's with that affine would."""
    folder.mkdir(exist_ok=True)
    shared = series_elements(KINDS[modality], modality)
    directions, spacing, positions = lps_planes(affine, voxels.shape[2])
    for index in range(voxels.shape[2]):
        dataset = Dataset()
        dataset.update(shared)
        dataset.SOPInstanceUID = generate_uid()
        dataset.InstanceNumber = voxels.shape[2] - index  # to be ignored
        add_pixels(dataset, voxels[:, :, index].T)
        dataset.ImageOrientationPatient = directions
        dataset.PixelSpacing = spacing[:2]
        dataset.SliceThickness = spacing[2]
        dataset.ImagePositionPatient = positions[index]
        if edit is not None:
            edit(index, dataset)
        save(dataset, folder / name.format(index))
    return folder


def write_enhanced(path, voxels, affine, *, order=None, edit=None):
    """An enhanced MR file with the slices stored in the order given, each with a functional group of its own."""
    order = range(voxels.shape[2]) if order is None else order
    dataset = series_elements(EnhancedMRImageStorage, "MR")
    dataset.SOPInstanceUID = generate_uid()
    directions, spacing, positions = lps_planes(affine, voxels.shape[2])
    add_pixels(dataset, np.stack([voxels[:, :, index].T for index in order]))
    measures = item(PixelSpacing=spacing[:2], SliceThickness=spacing[2])
    dataset.SharedFunctionalGroupsSequence = [
        item(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[item(ImageOrientationPatient=directions)])
    ]
    dataset.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=[item(ImagePositionPatient=positions[index])]) for index in order
    ]
    if edit is not None:
        edit(dataset)
    return save(dataset, path)


def write_slide_level(path, pixels, *, spacing_mm, series, tile=16, packed=None, syntax=ExplicitVRLittleEndian, **elements):
    """One level of a slide, (H, W, 3), in full tiles; `packed` turns a tile into a compressed one."""
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % tile), (0, -width % tile), (0, 0)))
    rows, columns = padded.shape[0] // tile, padded.shape[1] // tile
    tiles = padded.reshape(rows, tile, columns, tile, 3).swapaxes(1, 2).reshape(-1, tile, tile, 3)
    dataset = series_elements(VLWholeSlideMicroscopyImageStorage, "SM", **series)
    dataset.SOPInstanceUID = generate_uid()
    dataset.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
    add_pixels(dataset, tiles[..., 0])
    dataset.SamplesPerPixel, dataset.PlanarConfiguration, dataset.PhotometricInterpretation = 3, 0, "RGB"
    dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns = height, width
    dataset.TotalPixelMatrixFocalPlanes = dataset.NumberOfOpticalPaths = 1
    dataset.DimensionOrganizationType = "TILED_FULL"
    dataset.ImagedVolumeWidth, dataset.ImagedVolumeHeight, dataset.ImagedVolumeDepth = (
        width * spacing_mm,
        height * spacing_mm,
        1e-3,
    )
    dataset.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    dataset.TotalPixelMatrixOriginSequence = [item(XOffsetInSlideCoordinateSystem=20, YOffsetInSlideCoordinateSystem=40)]
    dataset.OpticalPathSequence = [item(OpticalPathIdentifier="1")]
    measures = item(PixelSpacing=[spacing_mm, spacing_mm], SliceThickness=1e-3)
    dataset.SharedFunctionalGroupsSequence = [item(PixelMeasuresSequence=[measures])]
    dataset.PixelData = tiles.tobytes() if packed is None else encapsulate([packed(one) for one in tiles])
    dataset["PixelData"].VR = "OW" if packed is None else "OB"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return save(dataset, path, syntax)


def series_elements(kind, modality, **elements):
    dataset = Dataset()
    dataset.SOPClassUID = kind
    dataset.Modality = modality
    dataset.PatientName, dataset.PatientID = PATIENT, PATIENT
    dataset.PatientBirthDate, dataset.PatientSex = "19700101", "O"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID, dataset.AccessionNumber = "20200101", "120000", "1", "1"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def lps_planes(affine, slices):
    """Directions, spacings (rows, columns, slices) and the slices' positions, as DICOM wants them."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    column, row, slice_ = (np.linalg.norm(lps[:3, axis]) for axis in range(3))
    directions = decimals([*(lps[:3, 0] / column), *(lps[:3, 1] / row)])
    positions = [decimals(lps[:3, 3] + index * lps[:3, 2]) for index in range(slices)]
    return directions, decimals([row, column, slice_]), positions


def decimals(values):
    return [format_number_as_ds(float(value)) for value in values]


def add_pixels(dataset, images):
    """(rows, columns) or (frames, rows, columns)."""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = images.shape[-2:]
    if images.ndim == 3:
        dataset.NumberOfFrames = len(images)
    dataset.BitsAllocated = dataset.BitsStored = 8 * images.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(images.dtype.kind == "i")
    content = np.ascontiguousarray(images).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OW"


def item(**elements):
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def save(dataset, path, transfer_syntax=ExplicitVRLittleEndian):
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = transfer_syntax
    if "PixelData" in dataset:
        dataset["PixelData"].is_undefined_length = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    dataset.save_as(path, enforce_file_format=True)
    return path
