"""The config of a run: reading, overriding, validating and writing it. Its sections are in the files beside this one."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, ValidationError, model_validator
from yaml import YAMLError

from configs import agreement, compatibility
from configs.errors import OvertileError
from configs.inference_section import InferenceSection
from configs.network_sections import ModelSection, SlidingWindowSection, UNetSection
from configs.sections import (
    AugmentSection,
    DataSection,
    HeadSection,
    ImageLabelSection,
    LossSection,
    NormaliseSection,
    OptimizerSection,
    PretrainSection,
    RunSection,
    SamplingSection,
    Section,
    TrainerSection,
    WarmStartSection,
)


class ConfigError(OvertileError):
    """A config, or an option of the command line, that isn't valid. The message names the key and what is allowed."""


class Config(Section):
    """The whole config of a run. The bundle carries all of it."""

    run: RunSection
    data: DataSection
    normalise: NormaliseSection = NormaliseSection()
    augment: AugmentSection = AugmentSection()
    model: Annotated[ModelSection, Field(discriminator="name")]
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
        """Size of a training patch in pixels, in S order."""
        if isinstance(self.model, SlidingWindowSection):
            return (self.model.window,) * self.data.dimensions
        return self.sampling.patch_size or ()

    @property
    def loss_name(self) -> str:
        """Name of the loss that is minimised."""
        return compatibility.effective_loss(self.model, self.head, self.loss)

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        agreement.check_patch_key(self.model, self.sampling)
        agreement.check_axes(self.data, self.sampling, self.inference)
        agreement.check_unet_sizes(self.model, self.data, self.patch_size)
        agreement.check_augment(self.augment, self.data, self.patch_size)
        agreement.check_warm_start(self.warm_start)
        compatibility.check_classes(self.data, self.head)
        compatibility.check_method(self.model, self.head)
        compatibility.check_values(self.data, self.head)
        compatibility.check_ignore_label(self.data, self.head)
        compatibility.check_loss(self.model, self.head, self.loss)
        compatibility.check_class_weights(self.model, self.data, self.head, self.loss)
        compatibility.check_border_weight(self.model, self.head, self.loss)
        agreement.check_folds(self.trainer)
        agreement.check_hard_negatives(self.sampling, self.model, self.data, self.head)
        agreement.check_average(self.inference, self.augment, self.model, self.data)
        agreement.check_objects(self.inference, self.head)
        agreement.check_image_label(self.image_label, self.data, self.head)
        return self


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply `section.key=value` overrides to it.

    Raises:
        ConfigError: the file can't be read, an override isn't `key=value`, or the values aren't a valid config.
    """
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"override {override!r}: not section.key=value, for example trainer.max_steps=500")
        if value.strip().startswith("#"):
            raise ConfigError(
                f"override {override!r}: # begins a comment in YAML; quote the value: {key}=\"'{value.strip()}'\""
            )
    try:
        values = OmegaConf.merge(OmegaConf.load(path), OmegaConf.from_dotlist(list(overrides)))
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
    """Validate a mapping of plain values and return the config.

    Args:
        values: sections by name, each a mapping of keys to values.
        origin: file or request that the values come from; it begins each line of the error.

    Raises:
        ConfigError: one line per problem, with the key, its value and what is allowed.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines = [f"{origin}: {_problem_text(detail)}" for detail in error.errors()]
        raise ConfigError("\n".join(lines)) from error


def dump(config: Config) -> str:
    """Return the whole config as YAML, defaults included. `load` reads it back."""
    return str(OmegaConf.to_yaml(OmegaConf.create(config.model_dump(mode="json"))))


def _problem_text(detail: Any) -> str:
    """Return one of pydantic's problems as `key: what is wrong; what to do`."""
    location = [str(part) for part in detail["loc"] if part not in ("unet", "sliding_window")]
    key = ".".join(location)
    if detail["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(key, _all_keys(), n=1, cutoff=0.0)[0]
        return f"{key}: unknown key; did you mean {nearest}?"
    if detail["type"] == "missing":
        return f"{key}: missing; add it to the file or give {key}=VALUE on the command line"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {message}; got {detail['input']!r}"


def _all_keys() -> list[str]:
    """Return the names of all sections, and of all keys as `section.key`."""
    sections: list[tuple[str, type[Section]]] = [("model", UNetSection), ("model", SlidingWindowSection)]
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            sections.append((name, field.annotation))
    return [*Config.model_fields, *(f"{name}.{key}" for name, section in sections for key in section.model_fields)]
