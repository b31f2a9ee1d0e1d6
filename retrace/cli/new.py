"""`retrace new`: start a study of one's own from the file of another, without its published figures."""

import re

from pydantic import TypeAdapter, ValidationError

from retrace.cli.use import STUDIES, folder, names
from retrace.config.base import Name
from retrace.config.load import parse
from retrace.config.reading import yaml_mapping
from retrace.errors import UserError
from retrace.files import write_text

# figures of the study that is copied: they say nothing about other data
PUBLISHED = ("report.claims", "report.published_images", "report.published_epochs", "expected")
HEADER = """# Study `{name}`, started from `{source}`: edit `classes`, `data` and `report`, then `retrace use {name}`.
# What was published of `{source}` (claims, expected values) is left out.
# `retrace inspect <folder>` writes `classes` and `data` for a folder of yours.
"""


def new(name: str, source: str) -> str:
    """Write studies/<name>.yaml from studies/<source>.yaml; returns the line to print.

    Raises `UserError` for a name that no study can have or that is taken, and for an unknown or faulty source.
    """
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise UserError(f"{name!r}: a name begins with a letter; allowed: a to z, 0 to 9 and _") from None
    known = names()
    if source not in known:
        raise UserError(f"--from {source!r}: no such study; allowed: {', '.join(known)}")
    path = STUDIES / f"{name}.yaml"
    if not STUDIES.is_dir():
        raise UserError(f"{STUDIES}/: no such folder; run this in the project's folder")
    if path.exists():
        raise UserError(f"{path}: exists; choose another name, or delete it first")
    given = folder() / f"{source}.yaml"
    text = started(given.read_text(encoding="utf-8"), name, source)
    parse(yaml_mapping(text, path.as_posix()), path.as_posix())
    write_text(path, text)
    return f"{path} written from {given}; edit classes, data and report in it, then: retrace use {name} && dvc repro"


def started(text: str, name: str, source: str) -> str:
    """The text of a study file made into that of the study `name`."""
    body = re.sub(r"\A(?:#[^\n]*\n|\n)*", "", text)
    body = re.sub(r"(?m)^study:[^\n#]*", f"study: {name}", body, count=1)
    body = _replaced(body, "data.root", f"root: data/external/{name}    # your images and labels; DVC watches it")
    body = _replaced(body, "report.data_needed", f"data_needed: your own data, in data/external/{name}")
    for key in PUBLISHED:
        body = _replaced(body, key, "")
    return HEADER.format(name=name, source=source) + re.sub(r"\n{3,}", "\n\n", body)


def _replaced(text: str, key: str, line: str) -> str:
    """The text with another line for a key and all that is below it; an empty `line` takes it out."""
    block, _, inner = key.rpartition(".")
    indent = "  " if block else ""
    result: list[str] = []
    inside, skipping = "", False  # the block of the top level; below a key that is replaced
    for one in text.splitlines(keepends=True):
        plain = one.strip()
        if plain and not plain.startswith("#") and not one.startswith(" "):
            inside = plain.partition(":")[0]
        if skipping and (not plain or one.startswith(f"{indent} ") or one.startswith(f"{indent}- ")):
            continue
        skipping = one.startswith(f"{indent}{inner}:") and (not block or inside == block)
        if not skipping:
            result.append(one)
        elif line:
            result.append(f"{indent}{line}\n")
    return "".join(result)
