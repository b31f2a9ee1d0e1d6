"""Read YAML files, and lay mappings over each other."""

import copy
import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from retrace.errors import UserError
from retrace.text_files import read_utf8

PARAMS = Path("params.yaml")
DEEPEST = 100  # levels of lists and mappings in a file
ENGINES = ("fabric", "ultralytics")
Values = dict[str, Any]  # as read from YAML: text, numbers, lists and mappings
_KINDS: dict[type, str] = {list: "list", str: "text"}
_BASES = {"0b": 2, "0o": 8, "0x": 16}
_Safe = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same results ten times faster


class _Loader(_Safe):  # type: ignore[misc, valid-type]
    """YAML 1.2, which DVC writes: 1e-05 and 010 are decimal numbers, `on` and dates are text."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> object:
        """Refuse a key that is there twice."""
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
            seen.add((key.tag, key.value) if isinstance(key, yaml.ScalarNode) else key)
        return super().construct_mapping(node, deep)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """A decimal, binary, octal or hexadecimal number."""
        text = self.construct_scalar(node).replace("_", "")
        return int(text, _BASES.get(text.lstrip("+-")[:2], 10))


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)
for _tag, _first, _pattern in (
    ("bool", "tTfF", r"true|True|TRUE|false|False|FALSE"),
    ("null", ["~", "n", "N", ""], r"~|null|Null|NULL|"),
    ("merge", "<", r"<<"),
    ("int", "-+0123456789", r"[-+]?(0b[0-1_]+|0o[0-7_]+|[0-9][0-9_]*|0x[0-9a-fA-F_]+)"),
    (
        "float",
        "-+0123456789.",
        r"[-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.[0-9_]+([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


def read_yaml(path: Path, shown: str = "") -> Values:
    """The mapping in a YAML 1.2 file. shown: what messages call the file.

    Raises `UserError` for a file that is missing, unreadable, not UTF-8, not valid YAML or not a mapping.
    """
    name = shown or str(path)
    try:
        return yaml_mapping(read_utf8(path, name), name)
    except FileNotFoundError:
        remedy = "run `retrace use <study>` in the project's folder to make it"
        raise UserError(f"{name}: no such file; {remedy}") from None
    except OSError as error:
        raise UserError(f"{name}: could not be read ({error.strerror})") from None


def yaml_mapping(text: str, name: str) -> Values:
    """The mapping in a YAML 1.2 text; errors as for `read_yaml`. name: what messages call it."""
    try:
        _check_depth(text)
        value = yaml.load(text, _Loader)
        _check_text(value, set())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        why = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{name}{line}: not valid YAML ({why})") from None
    except (ValueError, AttributeError) as error:  # e.g. !!int abc, a number of 5,000 digits
        raise UserError(f"{name}: a value cannot be read ({str(error)[:100]})") from None
    except RecursionError:
        raise UserError(f"{name}: nested too deeply, or inside itself") from None
    if not isinstance(value, dict):
        found = "is empty" if value is None else f"holds a {_KINDS.get(type(value), 'single value')}"
        remedy = "it must hold a mapping of names to values, one `name: value` a line"
        raise UserError(f"{name}: {found}; {remedy}")
    return value


def _check_depth(text: str) -> None:
    """Raise where the C loader, which calls itself for every level, would crash the process."""
    depth = 0
    for event in yaml.parse(text, _Safe):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise RecursionError


def _check_text(value: object, around: set[int]) -> None:
    """Raise for text that no file can hold (half a surrogate pair) and for what contains itself."""
    if isinstance(value, str):
        value.encode()
    if not isinstance(value, dict | list):
        return
    if id(value) in around:
        raise RecursionError
    around.add(id(value))
    for item in [*value, *value.values()] if isinstance(value, dict) else value:
        _check_text(item, around)
    around.remove(id(value))


def read_params(path: Path = PARAMS) -> Values:
    """The values of params.yaml; `UserError` if it shares defaults as a study file may.

    DVC watches each phase's block, and `-S` sets keys in it: it must be whole.
    """
    values = read_yaml(path)
    if "phase_defaults" in values:
        raise UserError(
            f"{path}: phase_defaults: only study files share defaults, here every phase is "
            "complete; save this file as studies/<name>.yaml with `study: <name>` in it, then: "
            "retrace use <name>"
        )
    return values


def merge(under: Values, over: Values) -> Values:
    """`over` on top of `under`, mapping by mapping; lists and scalars are replaced whole.

    Nothing in the result is shared with either.
    """
    result = copy.deepcopy(under)
    for key, value in over.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            result[key] = merge(old, value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def whole(values: Values, name: str = "params.yaml") -> Values:
    """The values of a study file as params.yaml has them, `phase_defaults` under every phase.

    name: what the message calls the values. Raises `UserError` for defaults of an unknown engine.
    """
    result = copy.deepcopy(values)
    defaults = result.pop("phase_defaults", None) or {}
    if not isinstance(defaults, dict) or not set(defaults) <= set(ENGINES):
        raise UserError(f"{name}: phase_defaults: allowed keys: {', '.join(ENGINES)}")
    for engine, shared in defaults.items():
        if shared is not None and not isinstance(shared, dict):
            raise UserError(f"{name}: phase_defaults.{engine} = {shared!r}: give a mapping of keys")
    phases = result.get("phases")
    if isinstance(phases, dict):
        result["phases"] = {key: _with(defaults, phase) for key, phase in phases.items()}
    return result


def _with(defaults: Values, phase: object) -> object:
    if phase is None:
        phase = {}
    if not isinstance(phase, dict):
        return phase
    engine = phase.get("engine", "fabric")
    shared = defaults.get(engine) if isinstance(engine, str) else None
    return merge(shared or {}, phase)
