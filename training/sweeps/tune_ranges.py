"""What a tuning may vary: a YAML file of ranges by the config's keys -> values of a trial -> the trial's config."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from yaml import YAMLError

from configs.schema import Config, ConfigError, parse

Ranges = Mapping[str, "Numbers | Choices"]
EXAMPLE = "{low: 1e-4, high: 1e-2, log: true} or {choices: [plain, residual]}"


class Numbers(BaseModel):
    """Numbers from `low` to `high`, both included; whole ones where both are whole.

    `log`: as many below the geometric mean as above it. `step`: only `low`, `low` + `step` and so on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}; give the range's two ends in order")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log takes ends above 0 and no step; leave log or the other out")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"step {self.step:g} is not above 0; give the distance between two values")
        if self._whole and isinstance(self.step, float):
            raise ValueError(f"step {self.step:g} isn't whole, as both ends are; for other numbers write {self.low}.0")
        return self

    @property
    def _whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def distribution(self) -> BaseDistribution:
        """As Optuna calls it."""
        if self._whole:
            return IntDistribution(int(self.low), int(self.high), self.log, int(self.step or 1))
        return FloatDistribution(self.low, self.high, self.log, self.step)

    def value(self, drawn: Any) -> Any:
        """What the config gets for what was drawn."""
        return drawn

    def samples(self) -> list[Any]:
        """Values that show whether the config takes all of them."""
        return [self.low, self.high]


class Choices(BaseModel):
    """Any values that YAML knows, lists too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    choices: Annotated[tuple[Any, ...], Field(min_length=2)]

    def distribution(self) -> BaseDistribution:
        """Of texts, since Optuna takes no lists."""
        return CategoricalDistribution([json.dumps(choice) for choice in self.choices])

    def value(self, drawn: Any) -> Any:
        """What the config gets for what was drawn."""
        return json.loads(drawn)

    def samples(self) -> list[Any]:
        """All of them."""
        return list(self.choices)


def read_ranges(path: Path, config: Config) -> dict[str, Numbers | Choices]:
    """The ranges by key, each of which the config takes at its ends, or in all its choices.

    Raises:
        ConfigError: the file can't be read, isn't a mapping of ranges, or names an unknown key or a value that can't be.
    """
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read; give the path of a YAML file of ranges") from error
    except (YAMLError, OmegaConfBaseException, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{path}: not a mapping of keys to ranges, such as optimizer.learning_rate: {EXAMPLE}")
    ranges = {str(key): _range(path, str(key), given) for key, given in content.items()}
    for key, found in ranges.items():
        for value in found.samples():
            apply(config, {key: value}, origin=str(path))
    return ranges


def _range(path: Path, key: str, given: object) -> Numbers | Choices:
    kind: type[Numbers | Choices] = Choices if isinstance(given, dict) and "choices" in given else Numbers
    try:
        return TypeAdapter(kind).validate_python(given)
    except ValidationError as error:
        detail = error.errors()[0]
        place = ".".join(str(part) for part in detail["loc"] if part not in ("int", "float"))
        told = f"{place}: " if place else ""
        raise ConfigError(f"{path}: {key}: {told}{detail['msg'].removeprefix('Value error, ')}; write {EXAMPLE}") from error


def apply(config: Config, values: Mapping[str, Any], origin: str) -> Config:
    """The config with values by `section.key`.

    Raises:
        ConfigError: there is no such key, with the nearest one, or the values can't be; `origin` stands before it.
    """
    content = config.model_dump(mode="json")
    for key, value in values.items():
        section, _, name = key.partition(".")
        if not name or not isinstance(content.setdefault(section, {}), dict):
            raise ConfigError(f"{origin}: {key}: not section.key; for example optimizer.learning_rate")
        content[section][name] = value
    return parse(content, origin)
