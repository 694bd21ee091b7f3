"""The config of a run, whole, as it is read, overridden, checked and written; its sections lie in the files beside this one."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, ValidationError, model_validator
from yaml import YAMLError

from configs.agreement import check_agreement
from configs.network_sections import SlidingWindowSection, UNetSection
from configs.section import Section
from configs.sections import (
    AugmentSection,
    DataSection,
    HeadSection,
    ImageLabelSection,
    InferenceSection,
    LossSection,
    NormaliseSection,
    OptimizerSection,
    PretrainSection,
    RunSection,
    SamplingSection,
    TrainerSection,
    WarmStartSection,
)


class ConfigError(Exception):
    """The config says something that can't be; the message names the key and what is allowed."""


class Config(Section):
    """Everything that a run is; travels whole in the bundle."""

    run: RunSection
    data: DataSection
    normalise: NormaliseSection = NormaliseSection()
    augment: AugmentSection = AugmentSection()
    model: Annotated[UNetSection | SlidingWindowSection, Field(discriminator="name")]
    head: HeadSection = HeadSection()
    image_label: ImageLabelSection = ImageLabelSection()
    sampling: SamplingSection = SamplingSection()
    loss: LossSection = LossSection()
    optimizer: OptimizerSection = OptimizerSection()
    warm_start: WarmStartSection = WarmStartSection()
    pretrain: PretrainSection = PretrainSection()
    trainer: TrainerSection = TrainerSection()
    inference: InferenceSection = InferenceSection()

    @property
    def patch_size(self) -> tuple[int, ...]:
        """Size of a training patch, in S order."""
        if isinstance(self.model, SlidingWindowSection):
            return (self.model.window,) * self.data.dimensions
        return self.sampling.patch_size or ()

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        check_agreement(self)
        return self


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML file and puts `section.key=value` overrides over it.

    Raises:
        ConfigError: the file can't be read, an override isn't `key=value`, or the values aren't a valid config.
    """
    try:
        values = OmegaConf.merge(OmegaConf.load(path), _dotlist(overrides))
        container = OmegaConf.to_container(values, resolve=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: can't be read; give the path of a YAML file, for example configs/histology_unet.yaml"
        ) from error
    except (YAMLError, OmegaConfBaseException, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path}: not a YAML mapping of sections: {reason}") from error
    return parse(container, origin=str(path))


def parse(values: object, origin: str) -> Config:
    """Validates plain values; `origin` stands before each line of the error.

    Raises:
        ConfigError: one line a problem, with the key, what came and what is allowed.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines = [f"{origin}: {_line(detail)}" for detail in error.errors()]
        raise ConfigError("\n".join(lines)) from error


def dump(config: Config) -> str:
    """The whole config as YAML, defaults included; `load` reads it back."""
    return str(OmegaConf.to_yaml(OmegaConf.create(config.model_dump(mode="json"))))


def _dotlist(overrides: Sequence[str]) -> Any:
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"override {override!r}: not section.key=value, for example trainer.max_steps=500")
    return OmegaConf.from_dotlist(list(overrides))


def _line(detail: Any) -> str:
    """One problem as `key: what came; what to do`."""
    location = [str(part) for part in detail["loc"] if part not in ("unet", "sliding_window")]
    key = ".".join(location)
    if detail["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(key, _known_keys(), n=1, cutoff=0.0)[0]
        return f"{key}: unknown key; did you mean {nearest}?"
    if detail["type"] == "missing":
        return f"{key}: missing; add it to the file or give {key}=VALUE on the command line"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {message}; got {detail['input']!r}"


def _known_keys() -> list[str]:
    sections: list[tuple[str, type[Section]]] = [("model", UNetSection), ("model", SlidingWindowSection)]
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            sections.append((name, field.annotation))
    return [*Config.model_fields, *(f"{name}.{key}" for name, section in sections for key in section.model_fields)]
