"""Write params.yaml from a study file, with shared defaults and omitted blocks written out and comments kept."""

import copy
import io
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from retrace.config import read_yaml
from retrace.config.load import parse
from retrace.config.reading import yaml_mapping
from retrace.errors import UserError
from retrace.text_files import read_utf8

REPEATS = "these phases again with these seeds: tables then show means over seeds"
FIRST = ("note", "engine", "init")  # of a phase, before what it shares with others


class _Representer(RoundTripRepresenter):
    """Writes None as `null`; a class of its own, because ruamel.yaml registers for a class what one writer asks for."""

    def represent_null(self, _: None) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(type(None), _Representer.represent_null)


def written_out(study: Path, overlay: Path | None = None) -> str:
    """The text of params.yaml for a study file, with the file `overlay` merged in.

    `phase_defaults` are written into every phase of their engine, and blocks that have defaults and were left out, of
    params.yaml or of a phase, are written out with them: `dvc exp run -S` changes only keys that are there.
    Raises `UserError` where the values are not valid.
    """
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.width, yaml.preserve_quotes = 120, True
    values = _read(yaml, study)
    if overlay is not None:
        _lay_over(values, _read(yaml, overlay))
    params = parse(yaml_mapping(_dumped(yaml, values), study.as_posix()), study.as_posix())
    defaults = values.pop("phase_defaults", None) or CommentedMap()
    for name, phase in values["phases"].items():
        values["phases"][name] = _complete(phase, defaults)
        _write_out(values["phases"][name], params.phases[name])
        _leave_out(values["phases"][name], params.phases[name])
    if "repeats" not in values:  # dvc.yaml reads it
        after = list(values).index("phases") + 1
        values.insert(after, "repeats", _lists(params.repeats), REPEATS)
    _write_out(values, params, "expected")
    _write_out(values["report"], params.report, "focus_classes", "colors")
    return _spaced(_dumped(yaml, values))


def _read(yaml: YAML, path: Path) -> CommentedMap:
    """A study file with its comments, every alias and `<<` in it written out.

    Raises:
        UserError: it is missing, not UTF-8, not YAML or not a mapping of names to values.
    """
    read_yaml(path)  # refuses with the line what the other reader ends on in ways of its own
    try:
        values = yaml.load(read_utf8(path))
    except (YAMLError, ValueError, AttributeError, TypeError, RecursionError) as error:
        why = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise UserError(f"{path}: a value cannot be read ({why})") from None
    return _expanded(values, path, "")


def _expanded(value: Any, path: Path, place: str) -> Any:
    """A value with what it shares with others copied, so that a change of one is not a change of all."""
    if not isinstance(value, CommentedMap):
        return copy.deepcopy(value)
    result = CommentedMap()
    if value.fa.flow_style():
        result.fa.set_flow_style()
    for key, item in value.items():
        if not isinstance(key, str):
            raise UserError(f"{path}: {place}{key!r}: not a name; write a name in quotes")
        result[key] = _expanded(item, path, f"{place}{key}.")
    result.ca.comment, result.ca.end = value.ca.comment, value.ca.end
    result.ca.items.update({key: comment for key, comment in value.ca.items.items() if key in result})
    return result


def _dumped(yaml: YAML, values: CommentedMap) -> str:
    stream = io.StringIO()
    yaml.dump(values, stream)
    return stream.getvalue()


def _complete(phase: CommentedMap | None, defaults: CommentedMap) -> CommentedMap:
    """A phase with the defaults of its engine below its own keys."""
    phase = CommentedMap() if phase is None else phase
    shared = copy.deepcopy(defaults.get(phase.get("engine", "fabric")) or CommentedMap())
    result = CommentedMap()
    for source in ({key: phase[key] for key in FIRST if key in phase}, shared):
        for key, value in source.items():
            result[key] = value
    result.ca.items.update(shared.ca.items)
    _lay_over(result, phase)
    return result


def _lay_over(under: CommentedMap, over: CommentedMap) -> None:
    """`merge` of `retrace.config`, in place, with the comments of both; those of `over` win."""
    for key, value in over.items():
        if isinstance(value, CommentedMap) and isinstance(under.get(key), CommentedMap):
            _lay_over(under[key], value)
        else:
            under[key] = value
            under.ca.items.pop(key, None)
            if key in over.ca.items:
                under.ca.items[key] = over.ca.items[key]


def _write_out(values: CommentedMap, block: BaseModel, *watched: str) -> None:
    """Add what `values` left out of a block: the blocks in it that have defaults, and keys that dvc.yaml names."""
    whole = block.model_dump(mode="json")
    for name in type(block).model_fields:
        wanted = name in watched or isinstance(getattr(block, name), BaseModel)
        if wanted and name not in values:
            values[name] = whole[name]


def _lists(block: BaseModel) -> CommentedMap:
    """A block of lists, each on one line."""
    result = CommentedMap()
    for name, items in block.model_dump(mode="json").items():
        result[name] = CommentedSeq(items)
        result[name].fa.set_flow_style()
    return result


def _leave_out(values: CommentedMap, block: BaseModel) -> None:
    """Remove keys that do not apply to a block: they are null, to undo what another file shares or has set."""
    for name in list(values):
        inner = getattr(block, name, None)
        if name not in type(block).model_fields:
            del values[name]
        elif isinstance(inner, BaseModel):
            _leave_out(values[name], inner)


def _spaced(text: str) -> str:
    """One empty line before each block of the file and none that came along with a comment inside of one."""
    text = re.sub(r"\n\n+", "\n", text)
    return re.sub(r"\n((?:#[^\n]*\n)*)(?=[a-z_]+:(?: *#[^\n]*| *)\n)", r"\n\n\1", text)
