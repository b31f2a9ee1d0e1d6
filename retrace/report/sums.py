"""files.json: the sha256 of every other file of a report.

dvc.lock holds one study at a time. For the others this is the record that a page, a picture or a document was not
changed after the run.
"""

from pathlib import Path

from retrace.documents.report_files import ReportFiles
from retrace.files import sha256_of

SUMS = "files.json"


def write_sums(folder: Path) -> None:
    """Write files.json into a report's folder; all its other files must be there."""
    ReportFiles(files=_others(folder)).write(folder / SUMS)


def wrong_files(folder: Path, name: str) -> list[str]:
    """Files that were changed, added or removed since files.json was written, one line each.

    Args:
        name: what the user calls the folder, where it is read from a copy.

    Raises:
        UserError: files.json is missing or damaged.
    """
    recorded, found = ReportFiles.read(folder / SUMS, f"{name}/{SUMS}").files, _others(folder)
    wrong = []
    for file in sorted({*recorded, *found}):
        if file not in recorded:
            wrong.append(f"{name}/{file}: not in {name}/{SUMS}; delete it, or run `dvc repro report`")
        elif file not in found:
            wrong.append(f"{name}/{file}: {SUMS} names it, but the commit does not hold it; `git add` it and commit")
        elif recorded[file] != found[file]:
            wrong.append(f"{name}/{file}: not the bytes that {SUMS} records; restore it, or run `dvc repro report`")
    return wrong


def _others(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS)
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
