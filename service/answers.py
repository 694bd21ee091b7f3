"""What the routes answer with, as pydantic models, so that OpenAPI says the same."""

from datetime import datetime
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, Field

if TYPE_CHECKING:  # it brings torch, which the gateway does without
    from models.bundle import Manifest


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
    spacing_um: list[float] | None = Field(description="Distance between pixels it was trained at: (H, W) or (D, H, W).")
    validation: dict[str, float] = Field(description="Metrics, means over the validation cases.")
    intended_use: str

    @classmethod
    def of(cls, manifest: "Manifest") -> Self:
        """What of a bundle's manifest a client needs to know."""
        known = manifest.model_dump(
            include={"name", "method", "dimensions", "channels", "spacing_um", "validation", "intended_use"}
        )
        sections = enumerate(manifest.classes)
        classes = [ClassAnswer(name=section.name, colour=section.colour, label=label) for label, section in sections]
        return cls.model_validate({**known, "classes": classes})


class ModelsAnswer(BaseModel):
    """Every loaded model."""

    models: list[ModelAnswer]


class ComparedModelAnswer(BaseModel):
    """One model's part in a comparison."""

    name: str
    method: Literal["unet", "sliding_window"]
    seconds: float
    class_shares: dict[str, float] = Field(description="Class name -> share of the image's pixels.")
    mask: str = Field(description="The mask file, base64.")
    media_type: str


class CompareAnswer(BaseModel):
    """Two models on one image."""

    models: list[ComparedModelAnswer]
    agreement: float = Field(description="Share of pixels to which both give the same class.")
    dice: dict[str, float | None] = Field(description="Between both masks, a foreground class; null where neither has it.")
    disagreement: str = Field(description="A mask file, base64: 1 where the two differ.")
    media_type: str = Field(description="The disagreement's.")


class UploadAnswer(BaseModel):
    """What is known of an upload."""

    id: str = Field(description="32 hexadecimal digits; jobs name the upload by it.")
    bytes: int = Field(description="Of the whole file.")
    received: int = Field(description="Bytes that are on the server's disk; sending goes on from here.")
    complete: bool
    sha256: str | None = Field(description="Of the whole file, hexadecimal; null until it is complete.")
    filename: str | None = Field(description="As the client named it; null where it didn't.")
    expires_at: datetime = Field(description="When the server forgets it, unless more of it comes.")


class ErrorDetail(BaseModel):
    """What was wrong, and what to do."""

    code: str = Field(description="Stable, for programs.")
    message: str
    field: str | None = Field(default=None, description="The parameter that was wrong; left out where there is none.")
    limit: int | None = Field(
        default=None, description="What would have been allowed: bytes or pixels; left out where there is none."
    )
    request_id: str


class ErrorAnswer(BaseModel):
    """Every error has this shape."""

    error: ErrorDetail
