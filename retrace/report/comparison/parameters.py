"""docs/parameters.md: every key of params.yaml, from the schema itself.

`retrace compare --write` writes it between `<!-- retrace:parameters begin -->` and its end.
"""

import ast
import inspect
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from retrace.config.schema import Params

ROOT = "params.yaml"


@dataclass(frozen=True)
class Note:
    """How the schema writes a field: its type, and the comment on its line or above it."""

    type: str
    meaning: str


def reference() -> str:
    """A section for each block of params.yaml, in the order of the schema, Markdown."""
    sections: dict[tuple[str, type[BaseModel]], str] = {}
    for place, kind in _blocks(Params, ""):
        sections.setdefault((place, kind), _section(place, kind))
    return "\n\n".join(sections.values())


def _blocks(kind: type[BaseModel], place: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """(dotted place, block) of a block and of those in it."""
    yield place, kind
    for name, hint in typing.get_type_hints(kind).items():
        if name in kind.model_fields:
            for inner, suffix in _models(hint):
                yield from _blocks(inner, f"{place}.{name}{suffix}".removeprefix("."))


def _models(hint: Any, suffix: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """The blocks that a type allows, each with what follows the name of the key: `.<name>` in a mapping."""
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        yield hint, suffix
        return
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is dict:
        arguments, suffix = arguments[1:], f"{suffix}.<name>"
    elif typing.get_origin(hint) in (tuple, list):
        suffix = f"{suffix}.<n>"
    for argument in arguments:
        yield from _models(argument, suffix)


def _section(place: str, kind: type[BaseModel]) -> str:
    doc = re.sub(r"\s*\n\s*", " ", inspect.getdoc(kind) or "").strip()
    heading = f"### `{place or ROOT}`" + (f" ({kind.__name__})" if place else "")
    lines = [
        heading,
        "",
        *([doc, ""] if doc else []),
        "| key | type | default | meaning |",
        "| --- | --- | --- | --- |",
    ]
    notes = notes_of(kind)
    for name, field in kind.model_fields.items():
        note = notes.get(name, Note("", ""))
        lines.append(f"| `{name}` | {_cell(note.type)} | {_default(field)} | {_cell(note.meaning)} |")
    return "\n".join(lines)


def _default(field: Any) -> str:
    if field.default_factory is not None:
        return _shown(field.default_factory())
    return "required" if field.default is PydanticUndefined else _shown(field.default)


def _shown(value: object) -> str:
    if isinstance(value, BaseModel):
        return "its own defaults"
    if isinstance(value, tuple | list):
        return f"`[{', '.join(map(str, value))}]`"
    words = {None: "null", True: "true", False: "false"}
    return f"`{words.get(value, value) if isinstance(value, bool | None) else value}`" if value != "" else "empty"


def notes_of(kind: type[BaseModel]) -> dict[str, Note]:
    """The notes of every field of a block, those of its base classes too."""
    notes: dict[str, Note] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("retrace."):
            notes |= _own_notes(base)
    return notes


def _own_notes(kind: type) -> dict[str, Note]:
    source = inspect.getsource(kind)
    lines = source.splitlines()
    (tree,) = ast.parse(source).body
    found: dict[str, Note] = {}
    for node in tree.body if isinstance(tree, ast.ClassDef) else ():
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            meaning = _comment(lines, node.lineno - 1, (node.end_lineno or node.lineno) - 1)
            found[node.target.id] = Note(ast.unparse(node.annotation), meaning)
    return found


def _comment(lines: list[str], first: int, last: int) -> str:
    """The comment behind a field, else the one above it."""
    behind = re.search(r"  # (.*)$", lines[last])
    if behind:
        return behind[1]
    above: list[str] = []
    while first > 0 and lines[first - 1].strip().startswith("#"):
        first -= 1
        above.insert(0, lines[first].strip().removeprefix("#").strip())
    return " ".join(above)


def _cell(text: str) -> str:
    return text.replace(" | ", " or ").replace("|", "\\|").replace("<", "\\<")
