"""`retrace use` and `retrace studies`: params.yaml from a study's file, comments kept, hand edits never lost.

The first line of a written params.yaml carries a hash of its values. Whoever changes a value afterwards (an editor,
`dvc exp run -S`) changes that hash, and `use` then refuses to overwrite the file.
"""

import hashlib
import io
import json
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from retrace.config import PARAMS, parse, read_yaml
from retrace.errors import UserError
from retrace.files import write_text

STUDIES = Path("studies")  # of the project; outside of one: the copies that come with an installed `retrace`
MARK = re.compile(r"^# retrace use (?P<study>[a-z0-9_]+)(?P<demo> --demo)?; values (?P<hash>[0-9a-f]{16})$", re.M)


def folder() -> Path:
    """Where the study files are: in the project here, else where `retrace` was installed; `UserError` for neither."""
    if STUDIES.is_dir():
        return STUDIES
    try:
        files = metadata.files("retrace") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.parts[-3:-1] == ("retrace", "studies"):
            return Path(str(file.locate())).parent
    raise UserError(f"{STUDIES}/: no such folder; run this in the project's folder")


def names() -> list[str]:
    """The studies that come with the project, sorted."""
    found = sorted(path.stem for path in folder().glob("*.yaml") if "." not in path.stem)
    if not found:
        raise UserError(f"{folder()}/: no study files here; run this in the project's folder")
    return found


def values_hash(values: dict[str, Any]) -> str:
    """A short hash of the values alone: comments, order of keys and number formats do not count."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def render(study: str, demo: bool) -> str:
    """The text of params.yaml for a study: its file, with the demo overlay merged in when asked for."""
    known = names()
    if study not in known:
        raise UserError(f"{study!r}: no such study; allowed: {', '.join(known)}")
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 120, True
    yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))
    full = yaml.load((folder() / f"{study}.yaml").read_text(encoding="utf-8"))
    if demo:
        path = folder() / f"{study}.demo.yaml"
        if not path.is_file():
            raise UserError(f"{path}: this study has no demo; run `retrace use {study}` with its real data")
        _lay_over(full, yaml.load(path.read_text(encoding="utf-8")))
    buffer = io.StringIO()
    yaml.dump(full, buffer)
    plain = YAML(typ="safe", pure=True).load(buffer.getvalue())
    parse(plain, f"studies/{study}.yaml")
    mark = f"# retrace use {study}{' --demo' if demo else ''}; values {values_hash(plain)}\n"
    return mark + buffer.getvalue()


def _lay_over(under: CommentedMap, over: CommentedMap) -> None:
    for key, value in over.items():
        if isinstance(value, CommentedMap) and isinstance(under.get(key), CommentedMap):
            _lay_over(under[key], value)
        else:
            under[key] = value


def edited(path: Path = PARAMS) -> bool:
    """Whether the values in params.yaml differ from what `retrace use` wrote there (or it was never written by it)."""
    mark = MARK.search(path.read_text(encoding="utf-8"))
    return mark is None or mark["hash"] != values_hash(read_yaml(path))


def use(study: str, demo: bool, force: bool) -> str:
    """Write params.yaml for a study; returns the line to print. Hand edits are kept unless `force`."""
    text = render(study, demo)
    if PARAMS.exists() and not force and edited():
        raise UserError(
            f"{PARAMS} has edits that `retrace use` did not make and would lose; commit or copy them, "
            f"then: retrace use {study}{' --demo' if demo else ''} --force"
        )
    write_text(PARAMS, text)
    values = read_yaml(PARAMS)
    root = Path(values["data"]["root"])
    line = f"params.yaml is now study {study}{' (demo data)' if demo else ''}; next: dvc repro"
    if not root.exists():
        line += f"\nstill missing: {root} - {values['report'].get('data_needed') or 'the data of this study'}"
    return line


def table() -> list[dict[str, str]]:
    """One row per study for `retrace studies`."""
    rows = []
    for study in names():
        params = parse(read_yaml(folder() / f"{study}.yaml"), f"studies/{study}.yaml")
        rows.append(
            {
                "study": study,
                "task": params.task,
                "title": params.report.title,
                "phases": ", ".join(params.phases),
                "data needed": params.report.data_needed,
            }
        )
    return rows
