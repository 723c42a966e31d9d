"""The base of every section of the configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from quotabell.config.problems import BROKEN, Loc


class Section(BaseModel):
    """A mapping of the file: frozen, no unknown keys, all its problems reported together."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @classmethod
    def contradictions(cls, raw: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
        """Rules between keys, as (where below this section, what).

        They read the values as they were given, so that they are told even if another key is
        wrong; a value of a wrong type is somebody else's problem.
        """
        return iter(())

    @model_validator(mode="wrap")
    @classmethod
    def _report_everything(cls, raw: Any, build: ModelWrapValidatorHandler[Self]) -> Self:
        rules = list(cls.contradictions(raw)) if isinstance(raw, Mapping) else []
        found = [
            InitErrorDetails(type=_error("rule", text), loc=loc, input=raw) for loc, text in rules
        ]
        try:
            made = build(raw)
        except ValidationError as error:
            for e in error.errors(include_url=False, include_context=False):
                kind = _error(e["type"], e["msg"])
                found.append(InitErrorDetails(type=kind, loc=e["loc"], input=e["input"]))
        if found:
            raise ValidationError.from_exception_data(cls.__name__, found, hide_input=True)
        return made


def _error(kind: str, text: str) -> PydanticCustomError:
    return PydanticCustomError(kind, "{text}", {"text": text})


def part(of: object, key: str, default: object = None) -> Any:
    """What a mapping or a section holds under ``key``; BROKEN if it is neither."""
    if isinstance(of, Mapping):
        return of.get(key, default)
    return getattr(of, key) if isinstance(of, Section) else BROKEN


def revealed(value: object) -> str | None:
    """The text of a string or secret, None for anything else."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return value if isinstance(value, str) else None
