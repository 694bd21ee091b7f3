"""Bodies of requests and answers as pydantic models, from which the OpenAPI document is generated; media types of files."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from models.bundle_metrics import BundleMetrics, MetricSummary

if TYPE_CHECKING:  # the gateway builds answers from JSON, and doesn't load torch
    from models.calibration import Calibration
    from models.manifest import Manifest


ID = "^[0-9a-f]{32}$"
TAG = "^[a-z0-9][a-z0-9._-]{0,62}:[a-z0-9][a-z0-9._-]{0,62}$"

MEDIA_TYPES = {  # of result files, by the suffix of their names
    ".png": "image/png",
    ".tiff": "image/tiff",
    ".nii.gz": "application/gzip",
    ".geojson": "application/geo+json",
    ".dcm": "application/dicom",
    ".zip": "application/zip",
    ".csv": "text/csv",
    ".json": "application/json",
    ".html": "text/html",
}
FORMATS = ("png", "tiff", "nifti", "geojson", "dicom-seg", "ome-zarr")  # of masks


def media_type_of(name: str) -> str:
    """Return the media type of a result file."""
    return next((media_type for suffix, media_type in MEDIA_TYPES.items() if name.endswith(suffix)), "application/octet-stream")


class ClassAnswer(BaseModel):
    """Class of a model's masks."""

    name: str
    colour: str = Field(description="Colour for display, #rrggbb.")
    label: int = Field(description="Value of the class's pixels in the mask.")


class CalibrationAnswer(BaseModel):
    """Calibration of a model's probabilities on its validation cases."""

    temperature: float = Field(
        description="The logits are divided by it before probabilities and uncertainty are computed from them."
    )
    low_confidence: float | None = Field(
        description="Mean probability of an image's foreground below which the image gets the warning low_confidence."
    )
    cases: int = Field(description="Validation cases that the temperature was fitted on.")
    ece_before: float = Field(
        description="Expected calibration error of the network's own probabilities, in and near the foreground."
    )
    ece_after: float = Field(description="Expected calibration error with the temperature, on the same pixels.")

    @classmethod
    def of(cls, calibration: "Calibration") -> Self:
        """Return the part of a bundle's calibration that clients need."""
        return cls(
            temperature=calibration.temperature,
            low_confidence=calibration.low_confidence,
            cases=calibration.cases,
            ece_before=calibration.before.ece,
            ece_after=calibration.after.ece,
        )


class ModelAnswer(BaseModel):
    """Loaded model."""

    name: str
    method: Literal["unet", "sliding_window"]
    dimensions: Literal[2, 3]
    channels: list[str]
    classes: list[ClassAnswer]
    spacing_um: list[float] | None = Field(
        description="Spacing of the pixels in training, in micrometres: (H, W) or (D, H, W); null if unknown."
    )
    validation: dict[str, float] = Field(
        description="Validation scores that training ranked networks by; means over the cases."
    )
    metrics: list[MetricSummary] = Field(
        default=[], description="All metrics of the validation cases, with their conventions; empty for older bundles."
    )
    calibration: CalibrationAnswer | None = Field(
        default=None, description="Calibration of the probabilities; null if they are the network's own."
    )
    intended_use: str

    @classmethod
    def of(cls, manifest: "Manifest", metrics: BundleMetrics | None = None) -> Self:
        """Return the part of a bundle's manifest and of its metrics that clients need: no scores of single cases."""
        values = manifest.model_dump(
            include={"name", "method", "dimensions", "channels", "spacing_um", "validation", "intended_use"}
        )
        sections = enumerate(manifest.classes)
        classes = [ClassAnswer(name=section.name, colour=section.colour, label=label) for label, section in sections]
        calibration = CalibrationAnswer.of(manifest.calibration) if manifest.calibration else None
        means = metrics.metrics if metrics else []
        return cls.model_validate({**values, "classes": classes, "metrics": means, "calibration": calibration})


class BrokenModelAnswer(BaseModel):
    """Model that can't be loaded."""

    name: str
    code: str
    message: str


class ModelsAnswer(BaseModel):
    """Loaded models, and models that can't be loaded."""

    models: list[ModelAnswer]
    broken: list[BrokenModelAnswer] = Field(default=[], description="Models that can't be loaded.")


class LoadRequest(BaseModel):
    """Bundle of the server's model store."""

    model_config = ConfigDict(extra="forbid")

    tag: str = Field(description="NAME:VERSION, as overtile package prints it.", pattern=TAG)


class ComparedModelAnswer(BaseModel):
    """Results of a model in a comparison."""

    name: str
    method: Literal["unet", "sliding_window"]
    seconds: float
    class_shares: dict[str, float] = Field(description="Share of the image's pixels by class name.")
    mask: str = Field(description="Mask file in base64.")
    media_type: str


class CompareAnswer(BaseModel):
    """Comparison of two models on one image."""

    models: list[ComparedModelAnswer]
    agreement: float = Field(description="Share of the pixels that have the same class in both masks.")
    dice: dict[str, float | None] = Field(
        description="Dice between both masks by foreground class; null if neither mask has the class."
    )
    disagreement: str = Field(description="Mask file in base64: 1 where the two masks differ, else 0.")
    media_type: str = Field(description="Media type of the file in disagreement.")


TiffAxes = Literal["ZYX", "CYX", "CZYX", "ZCYX", "YXC", "ZYXC"]


class JobOptions(BaseModel):
    """Options of a job."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["segment", "compare"] = Field(default="segment", description="segment, or compare two models on one image.")
    spacing_um: list[Annotated[float, Field(gt=0, le=1e6)]] | None = Field(
        default=None,
        description="Spacing in micrometres, for files that have none: one number, or one for each axis.",
        max_length=3,
    )
    axes: TiffAxes | None = Field(default=None, description="Axes of a TIFF that doesn't name them, in the file's order.")
    tissue: bool = Field(default=False, description="Find the tissue on RGB slides first, and segment only that.")
    uncertainty: bool = Field(
        default=False, description="Write the uncertainty of each pixel: 0 certain, 1 all classes equally likely."
    )
    probabilities: Literal["uint8", "float16"] | None = Field(
        default=None, description="Write the probability of each class in this type."
    )
    objects: bool | None = Field(
        default=None,
        description="Number and measure the objects of the masks: an image of numbers, a CSV and, in 2D, GeoJSON for QuPath. "
        "Default: for models that were trained on numbered objects.",
    )
    outlines: Literal["exact", "smooth"] = Field(
        default="exact", description="Outlines of the objects: exact follows the pixels' sides; smooth is for people."
    )
    object_type: Literal["detection", "annotation"] = Field(default="detection", description="What the objects are in QuPath.")
    as_ensemble: bool = Field(default=False, description="Combine several models into one mask.")
    disagreement: bool = Field(default=False, description="Write how much the models of an ensemble disagree at each pixel.")


class JobRequest(BaseModel):
    """Job to create: files, models, formats and options."""

    model_config = ConfigDict(extra="forbid")

    uploads: list[Annotated[str, Field(pattern=ID)]] = Field(
        description="IDs of uploads: one file, the channels of one image in order, or the files of one DICOM series.",
        min_length=1,
        max_length=10_000,
    )
    models: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        description="Names of models of GET /v1/models.", min_length=1, max_length=16
    )
    formats: list[Literal["png", "tiff", "nifti", "geojson", "dicom-seg", "ome-zarr"]] = Field(
        default=[], description="Formats of the masks; default: the format of the image.", max_length=6
    )
    options: JobOptions = JobOptions()


class ResultAnswer(BaseModel):
    """Result file of a job."""

    name: str
    bytes: int
    sha256: str
    media_type: str


class JobFailure(BaseModel):
    """Reason for the failure of a job."""

    code: str = Field(description="Stable code for programs.")
    message: str
    limit: int | None = None


class JobAnswer(BaseModel):
    """State of a job."""

    id: str
    kind: Literal["segment", "compare"]
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    models: list[str]
    names: list[str | None] = Field(description="The client's names of the files; null for a file without a name.")
    progress: float = Field(description="Finished share of the work, 0 to 1.")
    position: int | None = Field(description="Position in the queue, starting at 1; null for a job that isn't queued.")
    eta_s: float | None = Field(description="Estimated seconds until the job ends; null if unknown.")
    warnings: list[str] = Field(description="Codes of warnings about the image.")
    error: JobFailure | None
    results: list[ResultAnswer]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None = Field(description="When the results are deleted; null for an unfinished job.")


class JobsAnswer(BaseModel):
    """Jobs of a key, newest first."""

    jobs: list[JobAnswer]


class UploadAnswer(BaseModel):
    """State of an upload."""

    id: str = Field(description="32 hexadecimal digits; send them in `uploads` of POST /v1/jobs.")
    bytes: int = Field(description="Size of the whole file in bytes.")
    received: int = Field(description="Number of bytes on the server's disk; continue sending from here.")
    complete: bool
    sha256: str | None = Field(description="SHA-256 of the whole file in hexadecimal; null until it is complete.")
    filename: str | None = Field(description="The client's name of the file; null without one.")
    expires_at: datetime = Field(description="When the server deletes the upload, unless more bytes arrive.")


class ErrorDetail(BaseModel):
    """Description of an error and its remedy."""

    code: str = Field(description="Stable code for programs.")
    message: str
    field: str | None = Field(default=None, description="Name of the invalid parameter; omitted if there is none.")
    limit: int | None = Field(
        default=None, description="Limit that was exceeded, in bytes, pixels or number; omitted if there is none."
    )
    request_id: str


class ErrorAnswer(BaseModel):
    """Body of every error."""

    error: ErrorDetail
