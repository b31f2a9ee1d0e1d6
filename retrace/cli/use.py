"""`retrace use` and `retrace studies`: write params.yaml from a study file, keeping comments and your own edits.

The first line of a written params.yaml carries a hash of its values. Whoever changes a value afterwards (an editor,
`dvc exp run -S`) changes that hash, and `use` then refuses to overwrite the file, unless its values are committed or
are those of a study file.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from retrace.cli.data_folder import prepare
from retrace.cli.study_files import written_out
from retrace.config import PARAMS, read_yaml
from retrace.config.load import load, parse
from retrace.config.reading import yaml_mapping
from retrace.errors import UserError
from retrace.files import write_text
from retrace.programs import git
from retrace.text_files import read_utf8

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
    text = json.dumps(_with_text_keys(values), sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _with_text_keys(value: Any) -> Any:
    """The value with the keys of its mappings as text: YAML has other keys too, which cannot be sorted together."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else repr(key): _with_text_keys(item) for key, item in value.items()}
    return [_with_text_keys(item) for item in value] if isinstance(value, list) else value


def render(study: str, demo: bool) -> str:
    """The text of params.yaml for a study: its file, with the demo overlay merged in when asked for."""
    known = names()
    if study not in known:
        raise UserError(f"{study!r}: no such study; allowed: {', '.join(known)}")
    overlay = folder() / f"{study}.demo.yaml" if demo else None
    if overlay is not None and not overlay.is_file():
        raise UserError(f"{overlay}: this study has no demo; run `retrace use {study}` with its real data")
    text = written_out(folder() / f"{study}.yaml", overlay)
    return f"# retrace use {study}{' --demo' if demo else ''}; values {values_hash(yaml_mapping(text, study))}\n{text}"


def edited(path: Path = PARAMS) -> bool:
    """Whether params.yaml holds values that would be lost: not committed, and of no study file as it is now."""
    values = read_yaml(path)
    mark = MARK.search(read_utf8(path))
    if (mark is not None and mark["hash"] == values_hash(values)) or values == _committed(path):
        return False
    return not any(values == written for written in _written(str(values.get("study"))))


def _written(study: str) -> Iterator[dict[str, Any]]:
    """The values that `retrace use` writes for a study, with and without `--demo`; none for a faulty study file."""
    for demo in (False, True):
        try:
            yield yaml_mapping(render(study, demo), study)
        except UserError:  # said when this study is chosen
            continue


def _committed(path: Path) -> dict[str, Any] | None:
    """The values of the file in the last commit; None where there is none."""
    try:
        return yaml_mapping(git("show", f"HEAD:./{path.as_posix()}"), path.as_posix())
    except UserError:
        return None


def use(study: str, demo: bool, force: bool) -> str:
    """Write params.yaml for a study; returns the line to print. Hand edits are kept unless `force`."""
    text = render(study, demo)
    if PARAMS.exists() and not force and edited():
        raise UserError(
            f"{PARAMS} has edits that are neither committed nor in a study file and would be lost; commit them, or "
            f"discard them with: retrace use {study}{' --demo' if demo else ''} --force"
        )
    write_text(PARAMS, text)
    line = f"params.yaml is now study {study}{' (demo data)' if demo else ''}; next: dvc repro"
    return "\n".join([line, *prepare(load(PARAMS), folder() / f"{study}.data.md")])


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
