"""Ranges of a tuning: a YAML file of ranges by config key -> values of a trial -> config of the trial."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, Union

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from yaml import YAMLError

from configs.schema import Config, ConfigError, parse

Range = Union["NumberRange", "ChoiceRange"]
Ranges = Mapping[str, Range]
EXAMPLE = "{low: 1e-4, high: 1e-2, log: true} or {choices: [plain, residual]}"


class NumberRange(BaseModel):
    """Numbers from `low` to `high`, both included; integers if both are integers.

    `log`: uniform on a logarithmic scale. `step`: only `low`, `low` + `step` and so on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}; give the two ends in order")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log takes ends above 0 and no step; leave out log or the other")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"step {self.step:g} is not above 0; give the distance between two values")
        if self._is_integer and isinstance(self.step, float):
            raise ValueError(f"step {self.step:g} isn't an integer, but both ends are; for other numbers write {self.low}.0")
        return self

    @property
    def _is_integer(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def distribution(self) -> BaseDistribution:
        """Return the range as Optuna's distribution."""
        if self._is_integer:
            return IntDistribution(int(self.low), int(self.high), self.log, int(self.step or 1))
        return FloatDistribution(self.low, self.high, self.log, self.step)

    def value(self, parameter: Any) -> Any:
        """Return the config's value for Optuna's parameter."""
        return parameter

    def samples(self) -> list[Any]:
        """Return the values that are checked against the config, the two ends."""
        return [self.low, self.high]


class ChoiceRange(BaseModel):
    """Any YAML values, including lists."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    choices: Annotated[tuple[Any, ...], Field(min_length=2)]

    def distribution(self) -> BaseDistribution:
        """Return the choices as Optuna's distribution, in JSON, since Optuna takes no lists."""
        return CategoricalDistribution([json.dumps(choice) for choice in self.choices])

    def value(self, parameter: Any) -> Any:
        """Return the config's value for Optuna's parameter."""
        return json.loads(parameter)

    def samples(self) -> list[Any]:
        """Return the values that are checked against the config, all choices."""
        return list(self.choices)


def read_ranges(path: Path, config: Config) -> dict[str, Range]:
    """Read the ranges by key, and check that the config accepts each at its ends, or all its choices.

    Raises:
        ConfigError: the file can't be read, isn't a mapping of ranges, or has an unknown key or an invalid value.
    """
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read; give the path of a YAML file of ranges") from error
    except (YAMLError, OmegaConfBaseException, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{path}: not a mapping of keys to ranges, such as optimizer.learning_rate: {EXAMPLE}")
    ranges: dict[str, Range] = {}
    for key, section in content.items():
        kind: type[Range] = ChoiceRange if isinstance(section, dict) and "choices" in section else NumberRange
        try:
            ranges[str(key)] = TypeAdapter(kind).validate_python(section)
        except ValidationError as error:
            detail = error.errors()[0]
            place = ".".join(str(part) for part in detail["loc"] if part not in ("int", "float"))
            prefix = f"{key}: {place}" if place else f"{key}"
            message = detail["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{path}: {prefix}: {message}; write {EXAMPLE}") from error
    for key, value_range in ranges.items():
        for value in value_range.samples():
            with_values(config, {key: value}, origin=str(path))
    return ranges


def with_values(config: Config, values: Mapping[str, Any], origin: str) -> Config:
    """Return the config with other values by `section.key`.

    Raises:
        ConfigError: an unknown key, with the nearest one, or an invalid value; the message starts with `origin`.
    """
    content = config.model_dump(mode="json")
    for key, value in values.items():
        section, _, name = key.partition(".")
        if not name or not isinstance(content.setdefault(section, {}), dict):
            raise ConfigError(f"{origin}: {key}: not section.key; for example optimizer.learning_rate")
        content[section][name] = value
    return parse(content, origin)
