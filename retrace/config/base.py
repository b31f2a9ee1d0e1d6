"""What all parameter blocks share: frozen, strict, unknown keys refused, text read as numbers."""

import typing
from collections.abc import Iterable
from typing import Annotated, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError


class Block(BaseModel):
    """A frozen group of parameters. Wrong types and unknown keys are errors; "3" is not 3."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    called: ClassVar[str] = ""  # in messages, where no key of the block says which of several it is


def refused(key: str, why: str, value: object = None, allowed: Iterable[object] = ()) -> PydanticCustomError:
    """The error for a validator to raise; `retrace.config.refusals` puts the message together.

    key: dotted, below the block whose validator raises it. value: what was given; None: not shown.
    allowed: the choices, in the order in which they are listed.
    """
    context = {"key": key, "why": why, "value": value, "allowed": tuple(allowed)}
    return PydanticCustomError("refused", "{why}", context)


def tags(member: type[BaseModel], key: str) -> tuple[object, ...]:
    """The values of `key` that choose this member of a union."""
    return typing.get_args(member.model_fields[key].annotation)


def chosen_by(key: str, members: tuple[type[BaseModel], ...], default: str | None = None) -> BeforeValidator:
    """For a union whose member `key` names: its default, and null for a key that only others have.

    null stands for "not there", so that `dvc exp run -S` and the levels of a factor can switch from
    one member to another although they can only set keys.
    """
    known = {name for member in members for name in member.model_fields}

    def prepare(value: object) -> object:
        if not isinstance(value, dict):
            return value
        given = value if default is None or key in value else {key: default, **value}
        own = next((member for member in members if given.get(key) in tags(member, key)), None)
        if own is None:
            return given
        away = known - set(own.model_fields)
        return {name: item for name, item in given.items() if item is not None or name not in away}

    return BeforeValidator(prepare)


def _number(value: object) -> object:
    # `dvc exp run -S lr=0.00001` writes 1e-05, which a YAML 1.1 reader returns as text (dvc#5971)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


T = TypeVar("T")
Items = Annotated[tuple[T, ...], Field(strict=False)]  # YAML has lists; a frozen block holds tuples
Number = Annotated[float, BeforeValidator(_number)]
Positive = Annotated[float, BeforeValidator(_number), Field(gt=0)]
NotNegative = Annotated[float, BeforeValidator(_number), Field(ge=0)]
Fraction = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]
Size = Annotated[tuple[Count, Count], Field(strict=False)]  # (height, width) in pixels
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]  # of a study, a phase or a factor
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
