"""Files written whole or not at all, canonical JSON and hashes: what every room needs and nothing more."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from retrace.errors import UserError
from retrace.programs import how_to_get

SCRATCH = Path(".retrace")  # git- and DVC-ignored: checkpoints, downloads, generated sources
CODE = ("retrace", "scenes", "stages")  # the folders of this project's code
LOGS = Path("logs")  # git-ignored: durations, TensorBoard, live status; never a dependency of anything


def sha256_of(path: Path) -> str:
    """Lower-case hex sha256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """Write atomically: a temporary file beside `path`, fsync, rename. A reader sees the old file or the new one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise _not_written(path, error) from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise _not_written(path, error) from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """UTF-8, `\\n` line ends, atomically."""
    write_bytes(path, text.encode())


def dump_json(value: object) -> str:
    """Readable JSON in the order the value was built; NaN and infinity are refused (a missing number is null)."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: object) -> None:
    """See `dump_json`; written atomically."""
    write_text(path, dump_json(value))


def read_json(path: Path):
    """Read a JSON file the pipeline wrote; a missing or damaged one is a `UserError` that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run {how_to_get(str(path), 'dvc repro')}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); delete it and run `dvc repro`") from None


def write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    """One compact JSON object per line, atomically."""
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")) for row in rows)
    write_text(path, "".join(line + "\n" for line in lines))


def read_jsonl(path: Path) -> Iterator[dict]:
    """The rows of a file made by `write_jsonl`, one at a time."""
    try:
        with open(path, encoding="utf-8") as stream:
            for line in stream:
                yield json.loads(line)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run {how_to_get(str(path), 'dvc repro')}") from None


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Fill a temporary folder beside `target` and rename it into place at the end; on any error nothing is left.

    An existing `target` is replaced ("completely rewrite outputs" is DVC's rule for outs).
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in target.parent.glob(f".{target.name}.*.partial"):  # of a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".partial"))
        os.chmod(temporary, 0o755)
    except OSError as error:
        raise _not_written(target, error) from error
    try:
        yield temporary
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _not_written(target, error) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _not_written(path: Path, error: OSError) -> UserError:
    # the reason may lie elsewhere: a block that fills `whole_folder` also reads
    reason = str(error) if error.filename and Path(error.filename) != path else error.strerror or str(error)
    return UserError(f"{path}: could not be written ({reason}); free some space or fix the permissions")
