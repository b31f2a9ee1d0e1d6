"""JSON files that nobody has checked yet."""

import json
from pathlib import Path

from retrace.data.formats.boxes import read_annotations
from retrace.data.formats.listing import holds, shown
from retrace.data.formats.problems import Problems
from retrace.text_files import encoding_of


def read_json_file(path: Path, root: Path, problems: Problems) -> object:
    """The content of a JSON file; None for one that is missing or damaged, which stops the stage."""
    where = shown(path, root)
    if not path.is_file():
        problems.stop("missing_file", where, f"no such file; {shown(path.parent, root)} holds: {holds(path.parent)}")
        return None
    raw = read_annotations(path, where, problems) or b""
    try:
        content: object = json.loads(raw)  # UTF-8, 16 or 32, as the standard allows
    except UnicodeDecodeError:
        found = encoding_of(raw) or "an unknown encoding"
        remedy = f"save it as UTF-8, e.g. iconv -f {found} -t UTF-8 old.json > new.json"
        problems.stop("encoding", where, f"the text is in {found}, not in UTF-8; {remedy}")
        return None
    except (ValueError, RecursionError) as error:
        problems.stop("bad_json", where, f"not valid JSON ({error})")
        return None
    return content
