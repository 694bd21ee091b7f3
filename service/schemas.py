"""Bodies of requests and answers as pydantic models, from which the OpenAPI document is generated; media types of files."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:  # the gateway builds answers from JSON, and doesn't load torch
    from models.bundle import Manifest


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
}
FORMATS = ("png", "tiff", "nifti", "geojson", "dicom-seg", "ome-zarr")  # of masks


def media_type_of(name: str) -> str:
    """Return the media type of a result file."""
    return next((media_type for suffix, media_type in MEDIA_TYPES.items() if name.endswith(suffix)), "application/octet-stream")


class ClassAnswer(BaseModel):
    """One class of a model's masks."""

    name: str
    colour: str = Field(description="For display: #rrggbb.")
    label: int = Field(description="The value of its pixels in the mask.")


class ModelAnswer(BaseModel):
    """A loaded model."""

    name: str
    method: Literal["unet", "sliding_window"]
    dimensions: Literal[2, 3]
    channels: list[str]
    classes: list[ClassAnswer]
    spacing_um: list[float] | None = Field(
        description="Distance between pixels in training, in micrometres: (H, W) or (D, H, W)."
    )
    validation: dict[str, float] = Field(description="Metrics, means over the validation cases.")
    intended_use: str

    @classmethod
    def of(cls, manifest: "Manifest") -> Self:
        """Return the part of a bundle's manifest that clients need."""
        values = manifest.model_dump(
            include={"name", "method", "dimensions", "channels", "spacing_um", "validation", "intended_use"}
        )
        sections = enumerate(manifest.classes)
        classes = [ClassAnswer(name=section.name, colour=section.colour, label=label) for label, section in sections]
        return cls.model_validate({**values, "classes": classes})


class BrokenModelAnswer(BaseModel):
    """A model that can't be loaded."""

    name: str
    code: str
    message: str


class ModelsAnswer(BaseModel):
    """Loaded models, and models that can't be loaded."""

    models: list[ModelAnswer]
    broken: list[BrokenModelAnswer] = Field(default=[], description="Models that can't be loaded.")


class LoadRequest(BaseModel):
    """A bundle of the server's model store."""

    model_config = ConfigDict(extra="forbid")

    tag: str = Field(description="name:version, as printed by overtile package.", pattern=TAG)


class ComparedModelAnswer(BaseModel):
    """One model's results in a comparison."""

    name: str
    method: Literal["unet", "sliding_window"]
    seconds: float
    class_shares: dict[str, float] = Field(description="Class name -> share of the image's pixels.")
    mask: str = Field(description="The mask file, base64.")
    media_type: str


class CompareAnswer(BaseModel):
    """Comparison of two models on one image."""

    models: list[ComparedModelAnswer]
    agreement: float = Field(description="Share of pixels with the same class in both masks.")
    dice: dict[str, float | None] = Field(
        description="Dice between both masks for each foreground class; null if neither has it."
    )
    disagreement: str = Field(description="A mask file, base64: 1 where the two differ.")
    media_type: str = Field(description="Media type of the disagreement.")


class JobOptions(BaseModel):
    """Options of a job beside models and formats."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["segment", "compare"] = Field(default="segment", description="compare: two models on one image.")
    spacing_um: list[Annotated[float, Field(gt=0, le=1e6)]] | None = Field(
        default=None,
        description="Where the files don't say: micrometres between pixels, one number or one an axis.",
        max_length=3,
    )
    tissue: bool = Field(default=False, description="Find tissue on RGB slides first, and skip what holds none.")
    uncertainty: bool = Field(
        default=False, description="Write the uncertainty of each pixel: 0 certain, 1 all classes equally likely."
    )
    probabilities: Literal["uint8", "float16"] | None = Field(
        default=None, description="Write the probability of each class in this type."
    )
    as_ensemble: bool = Field(default=False, description="Combine several models into one mask.")
    disagreement: bool = Field(default=False, description="Write how far the models of an ensemble disagree at each pixel.")


class JobRequest(BaseModel):
    """A job: files, models, formats and options."""

    model_config = ConfigDict(extra="forbid")

    uploads: list[Annotated[str, Field(pattern=ID)]] = Field(
        description="One file; or the channels of one image, in order; or the files of one DICOM series.",
        min_length=1,
        max_length=10_000,
    )
    models: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        description="Names of /v1/models.", min_length=1, max_length=16
    )
    formats: list[Literal["png", "tiff", "nifti", "geojson", "dicom-seg", "ome-zarr"]] = Field(
        default=[], description="Formats of the masks; default: the image's own.", max_length=6
    )
    options: JobOptions = JobOptions()


class ResultAnswer(BaseModel):
    """A result file of a job."""

    name: str
    bytes: int
    sha256: str
    media_type: str


class JobFailure(BaseModel):
    """Why a job failed."""

    code: str = Field(description="Stable, for programs.")
    message: str
    limit: int | None = None


class JobAnswer(BaseModel):
    """State of a job."""

    id: str
    kind: Literal["segment", "compare"]
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    models: list[str]
    names: list[str | None] = Field(description="File names of the uploads.")
    progress: float = Field(description="0 to 1.")
    position: int | None = Field(description="Position in the queue, from 1 on; null for a job that isn't waiting.")
    eta_s: float | None = Field(description="Estimated seconds until the end.")
    warnings: list[str]
    error: JobFailure | None
    results: list[ResultAnswer]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None = Field(description="When the results are deleted.")


class JobsAnswer(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobAnswer]


class UploadAnswer(BaseModel):
    """State of an upload."""

    id: str = Field(description="32 hexadecimal digits; jobs name the upload by it.")
    bytes: int = Field(description="Size of the whole file.")
    received: int = Field(description="Bytes that are on the server's disk; continue sending from here.")
    complete: bool
    sha256: str | None = Field(description="SHA-256 of the whole file, hexadecimal; null until it is complete.")
    filename: str | None = Field(description="The client's name of the file; null if it sent none.")
    expires_at: datetime = Field(description="When the server deletes the upload, unless more of it comes.")


class ErrorDetail(BaseModel):
    """What is wrong, and what to do."""

    code: str = Field(description="Stable, for programs.")
    message: str
    field: str | None = Field(default=None, description="The parameter that is wrong; omitted if there is none.")
    limit: int | None = Field(
        default=None, description="What is allowed, in bytes, pixels or number; omitted if there is none."
    )
    request_id: str


class ErrorAnswer(BaseModel):
    """Body of every error."""

    error: ErrorDetail
