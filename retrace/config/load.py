"""Read params.yaml into the typed schema; every error is one line: the key, the value and what is allowed."""

import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from retrace.config.schema import Params
from retrace.errors import UserError

PARAMS = Path("params.yaml")
_KINDS: dict[type, str] = {list: "list", str: "text"}


def read_yaml(path: Path, shown: str = "") -> dict[str, Any]:
    """A YAML 1.2 mapping (the dialect DVC writes: 1e-05 is a number). shown: what messages call the file."""
    name = shown or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{name}: no such file; run `retrace use <study>` in the project's folder to make it") from None
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except UnicodeDecodeError:
        raise UserError(f"{name}: not a text file in UTF-8; save it as one") from None
    except YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise UserError(f"{name}{line}: not valid YAML ({getattr(error, 'problem', None) or error})") from None
    if not isinstance(value, dict):
        found = "is empty" if value is None else f"holds a {_KINDS.get(type(value), 'single value')}"
        raise UserError(f"{name}: {found}; it must hold a mapping of names to values, one `name: value` a line")
    return value


def merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `under`, mapping by mapping; lists and scalars are replaced whole."""
    result = dict(under)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def whole(values: dict[str, Any], name: str = "params.yaml") -> dict[str, Any]:
    """The values of a study file as params.yaml has them: `phase_defaults.<engine>` merged under every phase of it.

    name: what the message calls the values. Raises `UserError` for defaults of an unknown engine.
    """
    values = dict(values)
    defaults = values.pop("phase_defaults", None) or {}
    if not isinstance(defaults, dict) or not set(defaults) <= {"fabric", "ultralytics"}:
        raise UserError(f"{name}: phase_defaults: allowed keys: fabric, ultralytics")
    phases = values.get("phases")
    if isinstance(phases, dict):
        merged = {}
        for key, phase in phases.items():
            phase = {} if phase is None else phase
            if isinstance(phase, dict):
                phase = merge(defaults.get(phase.get("engine", "fabric")) or {}, phase)
            merged[key] = phase
        values["phases"] = merged
    return values


def parse(values: dict[str, Any], name: str = "params.yaml") -> Params:
    """Validate the values of a study file or of params.yaml, which `name` calls in messages."""
    values = whole(values, name)
    phases = values.get("phases")
    if isinstance(phases, dict):
        values["phases"] = {
            key: {"engine": "fabric", **phase} if isinstance(phase, dict) else phase for key, phase in phases.items()
        }
    report = values.get("report")
    if values.get("task") == "detection" and isinstance(report, dict):
        values["report"] = {"headline": "AP50", **report}  # the default, mIoU, is for segmentation
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        lines = [_line(name, problem) for problem in error.errors()]
        raise UserError("\n       ".join(lines)) from None


def load(path: Path = PARAMS) -> Params:
    """The typed parameters of the project in the current folder."""
    values = read_yaml(path)
    if "phase_defaults" in values:  # DVC watches each phase's block, and `-S` sets keys in it: it must be whole
        raise UserError(
            f"{path}: phase_defaults: only study files share defaults, here every phase is complete; save this file"
            f" as studies/<name>.yaml with `study: <name>` in it, then: retrace use <name>"
        )
    return parse(values, str(path))


def _line(name: str, problem: Any) -> str:
    key, block = _walk(problem["loc"])
    kind, given = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        allowed = ", ".join(sorted(block.model_fields)) if block else "none"
        return f"{name}: {key}: unknown key; allowed: {allowed}"
    if kind == "missing":
        return f"{name}: {key}: missing; give it a value"
    message = problem["msg"].removeprefix("Value error, ")
    if kind == "value_error" and (not key or isinstance(given, (dict, BaseModel))):
        return f"{name}: {key + ': ' if key else ''}{message}"
    return f"{name}: {key} = {_short(given)}: {message[:1].lower()}{message[1:]}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _walk(location: tuple[Any, ...]) -> tuple[str, type[BaseModel] | None]:
    """The key as written in the file (pydantic adds union tags) and the block that holds its last part."""
    block: Any = Params
    holder, parts = None, []
    for part in location:
        options = _models(block)
        tagged = [o for o in options if len(options) > 1 and part in _tags(o)]
        if tagged:
            block = tagged[0]
            continue
        if isinstance(part, str) and any(o.__name__ == part for o in options) and part not in parts:
            continue
        holder = options[0] if options else None
        parts.append(str(part))
        field = holder.model_fields.get(part) if holder is not None and isinstance(part, str) else None
        if field is not None:
            block = field.annotation
        elif holder is None:
            block = _inner(block)
        else:
            block = None
    return ".".join(parts), holder


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _models(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [model for option in typing.get_args(annotation) for model in _models(option)]
    return []


def _inner(annotation: Any) -> Any:
    """The item type of a tuple or mapping annotation."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _inner(args[0])
    if origin is dict:
        return args[1]
    if origin in (tuple, list):
        return args[0]
    if origin in (typing.Union, types.UnionType):
        return next((inner for option in args if (inner := _inner(option)) is not None), None)
    return None


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    tags: tuple[Any, ...] = ()
    for name in ("kind", "by", "engine"):
        if name in model.model_fields:
            tags += typing.get_args(model.model_fields[name].annotation)
    return tags
