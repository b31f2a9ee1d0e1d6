"""Turn pydantic's errors into a `UserError` that has the key, the value and what is allowed."""

import re
import types
import typing
from collections.abc import Iterable

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from retrace.errors import Refusal, UserError

B = typing.TypeVar("B", bound=BaseModel)


def validated(model: type[B], values: object, name: str) -> B:
    """`values`, which `name` calls in messages, as a `model`; `UserError` with its `refusals`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = [refusal(model, problem) for problem in error.errors()]
    raise UserError("\n       ".join(f"{name}: {one}" for one in found), refusals=found)


def refusal(model: object, problem: ErrorDetails) -> Refusal:
    """One error of pydantic's, found while validating a `model` or a union of them."""
    key, block, others = _walk(model, problem["loc"])
    kind, value, context = problem["type"], problem["input"], problem.get("ctx", {})
    if kind == "refused":
        key = ".".join(filter(None, (key, context["key"])))
        return Refusal(key, context["value"], context["why"], context["allowed"])
    if kind == "missing":
        return Refusal(key, None, "missing; give it a value")
    if kind == "extra_forbidden":
        allowed = sorted(block.model_fields) if block else []
        last = str(problem["loc"][-1])
        if block is None or not any(last in other.model_fields for other in others):
            return Refusal(key, None, "unknown key", allowed)
        why = f"does not apply to {_named(block)}; take it out or set it to null"
        return Refusal(key, value, why, allowed)
    if kind.startswith("union_tag"):  # the key that chooses a member of a union
        tag = context["discriminator"].strip("'")
        key = f"{key}.{tag}"
        if kind == "union_tag_not_found":
            return Refusal(key, None, "missing; give it a value")
        allowed = [choice.strip("' ") for choice in context["expected_tags"].split(",")]
        return Refusal(key, value.get(tag), "no such choice", allowed)
    if kind == "literal_error":
        return Refusal(key, value, "no such choice", re.findall(r"'([^']*)'", context["expected"]))
    message = problem["msg"].removeprefix("Value error, ")
    return Refusal(key, value, f"{message[:1].lower()}{message[1:]}")


def _named(block: type[BaseModel]) -> str:
    """How a message calls a member of a union: `name = sgd`, or in words."""
    for key, field in block.model_fields.items():
        chosen = typing.get_args(field.annotation)
        if typing.get_origin(field.annotation) is typing.Literal and len(chosen) == 1:
            called = getattr(block, "called", "")
            return called or f"{key} = {chosen[0]}"
    return "this block"


def _walk(
    annotation: object, location: Iterable[int | str]
) -> tuple[str, type[BaseModel] | None, list[type[BaseModel]]]:
    """The key as written in the file (pydantic adds what chose a union's member), the block that
    holds its last part, and the other members of that block's union."""
    holder: type[BaseModel] | None = None
    parts: list[str] = []
    others: list[type[BaseModel]] = []
    siblings: list[type[BaseModel]] = []
    for part in location:
        options = _options(annotation)
        if len(options) > 1:
            siblings = siblings or _blocks(annotation)
            annotation = next((option for option in options if _is_chosen(option, part)), None)
            continue
        annotation = options[0] if options else None
        if part == "[key]":
            break
        parts.append(str(part))
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            holder, others, siblings = annotation, siblings, []
            field = annotation.model_fields.get(str(part))
            annotation = field.annotation if field is not None else None
        else:
            holder, others, siblings = None, [], []
            annotation = _item(annotation)
    return ".".join(parts), holder, others


def _options(annotation: object) -> list[object]:
    """The members of a union without None, else the annotation itself."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _options(args[0])
    if origin in (typing.Union, types.UnionType):
        present = [option for option in args if option is not type(None)]
        return _options(present[0]) if len(present) == 1 else present
    return [] if annotation is None else [annotation]


def _blocks(annotation: object) -> list[type[BaseModel]]:
    """The classes of a union, also of unions in it."""
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    options = _options(annotation)
    if options == [annotation]:
        return []
    found = []
    for option in options:
        found += _blocks(option)
    return found


def _is_chosen(option: object, part: int | str) -> bool:
    """Whether `part` of a location stands for this member of a union."""
    metadata = getattr(option, "__metadata__", ())
    if any(isinstance(item, Tag) and item.tag == part for item in metadata):
        return True
    for block in _blocks(option):
        for field in block.model_fields.values():
            literal = typing.get_origin(field.annotation) is typing.Literal
            if literal and typing.get_args(field.annotation) == (part,):
                return True
    return False


def _item(annotation: object) -> object:
    """The type of a list's or mapping's items."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is dict:
        return args[1]
    return args[0] if origin in (tuple, list) else None
