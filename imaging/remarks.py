"""Remarks: stable codes of what is read in a way that a user may not expect, and what each means.

A remark comes with every result: on the command line, in `X-Overtile-Warnings`, and in a job's `warnings`. docs/accepted.md
says which files get which remark, and which are refused.
"""

REMARKS = {
    "bitpix_ignored": "the header's number of bits differs from its data type; the data type is used",
    "constant_image": "all pixels have the same value",
    "extension_ignored": "extensions behind the NIfTI header have sizes that the format does not allow; they are skipped",
    "files_skipped": "files beside the slices of the series are no images of it and were skipped",
    "header_size_ignored": "the NIfTI header gives itself a wrong size; it is read all the same, as in nibabel",
    "high_bit_ignored": "the header's high bit is not its bits stored - 1; values are read from the lowest bit, as in pydicom",
    "labels_rounded": "labels are real numbers close to whole ones, such as 0.996 for 1; they are rounded",
    "low_confidence": "the network is less certain of this image's foreground than of the images that it was validated on",
    "name_differs": "the file's name says compressed and its content does not, or the other way round",
    "no_orientation": "the header says neither sform nor qform; only the voxel size is known",
    "offset_corrected": "the header says that the voxels begin at 0; they are read from right behind the header",
    "orientation_applied": "the picture is turned as its EXIF orientation says; the mask lies on it as viewers show it",
    "orientation_code_unknown": "the header has an orientation code that NIfTI does not define; it counts as 0, as in nibabel",
    "orientation_ignored": "the TIFF's orientation tag is not applied, as in tifffile; some viewers show the image turned",
    "pixel_types_differ": "some slices are signed and some are not; each is read as its own header says",
    "preamble_missing": "the DICOM file has no preamble; it is read all the same",
    "scaling_ignored": "the header's scale factor is not a finite number; values are read unscaled, as in nibabel",
    "sform_qform_differ": "the header's sform and qform disagree; the sform is used",
    "single_frame": "a fourth axis of length 1 is left out, in the mask too",
    "spacing_given": "the spacing is the one that was given with the request",
    "tiles_skipped": "tiles without tissue, or outside of the regions of interest, became background",
    "trailing_data": "the file holds more than the image; what follows the pixels is ignored",
}


def remark_text(code: str) -> str:
    """Return a remark as people read it: its code and what it means."""
    return f"{code} ({REMARKS[code]})"
