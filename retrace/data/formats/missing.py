"""What `data.source` and `data.unlabeled` name and is not there, and where the data of a study comes from.

`retrace use` writes the file `README` into the folder of a study's data.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from retrace.config.data import Bdd100kSource, Data, Source, SplitByFolder, SplitByList
from retrace.config.schema import Params
from retrace.data.formats.archive import SUFFIXES
from retrace.data.formats.listing import holds
from retrace.errors import UserError

README = "README.md"
PATHS = ("images", "masks", "annotations", "data_yaml", "meta", "labels", "class_file")  # keys of sources
WILD = frozenset("*?[")


def named_paths(data: Data) -> list[str]:
    """Files and folders below `data.root` that must be there: of the source, its lists, unlabeled images; sorted."""
    found = set(_of_source(data.source))
    for entry in data.unlabeled:
        if not entry.optional and not PurePosixPath(entry.path).is_absolute() and not WILD & set(entry.path):
            found.add(entry.path)
    return sorted(found - {".", ""})


def _of_source(source: Source) -> Iterator[str]:
    split = getattr(source, "split", None)
    folders = list(split.folders.values()) if isinstance(split, SplitByFolder) else []
    if isinstance(split, SplitByList):
        yield from split.lists.values()
    for key in PATHS:
        value = getattr(source, key, None)
        if isinstance(value, dict):
            yield from value.values()
        elif isinstance(value, str) and "{split}" in value:
            yield from (value.replace("{split}", folder) for folder in folders)
        elif isinstance(value, str):
            yield value


def missing(data: Data, root: Path) -> list[str]:
    """The `named_paths` that are not below `root`."""
    return [path for path in named_paths(data) if not (root / path).exists() and not _zipped(data.source, path, root)]


def _zipped(source: Source, path: str, root: Path) -> bool:
    """Whether an official zip of BDD100K, as downloaded, can hold a folder."""
    from retrace.data.formats.bdd100k import ZIPS

    if not isinstance(source, Bdd100kSource):
        return False
    patterns = ZIPS["images" if path == source.images else "masks"][1]
    return any(any(root.glob(pattern)) for pattern in patterns)


@contextmanager
def explained(params: Params) -> Iterator[None]:
    """Add to a refusal in here what lies in `data.root`, what is missing and where the data comes from.

    Raises:
        UserError: nothing of what `data` names is there, before anything else is looked at.
    """
    root = Path(params.data.root)
    local = params.data.synthetic is None and params.data.url is None and not root.is_file()
    lacking = missing(params.data, root) if local else []
    if lacking and root.is_dir() and len(lacking) == len(named_paths(params.data)):
        raise UserError(f"{params.data.root}: the data of study {params.study} is not here\n{_state(params, lacking)}")
    try:
        yield
    except UserError as error:
        if not lacking:
            raise
        raise UserError(f"{error}\n{_state(params, lacking)}") from None


def _state(params: Params, lacking: list[str]) -> str:
    root = Path(params.data.root)
    there = holds(root, besides={README})
    lines = [f"  there: {there}", f"  missing: {', '.join(lacking)}"]
    lines.append(f"  from: {params.report.data_needed or 'wherever you have it: report.data_needed does not say'}")
    packed = any(path.name.lower().endswith(SUFFIXES) for path in root.glob("*"))
    if packed and not isinstance(params.data.source, Bdd100kSource):
        lines.append("  an archive must be unpacked first, or named by data.root with its data.sha256")
    if (root / README).is_file():
        lines.append(f"  more: {params.data.root}/{README}")
    return "\n".join(lines)
