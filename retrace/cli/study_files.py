"""Write params.yaml from a study file, with shared defaults and omitted blocks written out and comments kept."""

import copy
import io
import re
from pathlib import Path

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from retrace.config.load import parse

REPEATS = "these phases again with these seeds: tables then show means over seeds"
FIRST = ("note", "engine", "init")  # of a phase, before what it shares with others


def written_out(study: Path, overlay: Path | None = None) -> str:
    """The text of params.yaml for a study file, with the file `overlay` merged in.

    `phase_defaults` are written into every phase of their engine, and blocks that have defaults and were left out, of
    params.yaml or of a phase, are written out with them: `dvc exp run -S` changes only keys that are there.
    Raises `UserError` where the values are not valid.
    """
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 120, True
    yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))
    values = yaml.load(study.read_text(encoding="utf-8"))
    if overlay is not None:
        _lay_over(values, yaml.load(overlay.read_text(encoding="utf-8")))
    params = parse(YAML(typ="safe", pure=True).load(_dumped(yaml, values)), study.as_posix())
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
