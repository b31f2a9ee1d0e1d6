"""`retrace compare`: results side by side, and the tables generated into README.md, docs/ and reports/README.md."""

from collections.abc import Sequence
from pathlib import Path

from retrace.errors import UserError


def compare(names: Sequence[str], files: Sequence[Path], metric: str | None, split: str | None) -> None:
    """Print the comparison of `names` and write it to `files`, each in the format of its ending."""
    from retrace.report.comparison import render, rows
    from retrace.report.comparison.selection import select

    for path in files:
        render.writer(path)
    comparison = rows.compare(select(names), metric, split)
    render.to_terminal(comparison)
    for path in files:
        render.write(comparison, path)


def write_documents(
    names: Sequence[str], files: Sequence[Path] = (), metric: str | None = None, split: str | None = None
) -> list[str]:
    """Bring every generated table up to date; returns the files that changed.

    Raises:
        UserError: names, files, a metric or a split were given, which these tables do not support.
    """
    from retrace.files import write_text
    from retrace.report.comparison.documents import generate

    options = {"-o/--out": files, "--metric": metric, "--split": split}
    given = [*names, *(name for name, value in options.items() if value)]
    if given:
        raise UserError(
            f"{', '.join(given)}: not allowed with --write, which always writes the tables of all studies; leave "
            "it out, or leave out --write"
        )
    changed = []
    for path, text in generate().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
            changed.append(path.as_posix())
    return changed
