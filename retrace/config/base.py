"""What all parameter blocks share: frozen, strict, unknown keys refused, and numbers that YAML 1.1 reads as text."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Block(BaseModel):
    """A frozen group of parameters. Wrong types are errors (no silent "3" -> 3), unknown keys too."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _number(value):
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
