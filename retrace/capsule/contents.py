"""The files of a capsule, made from a checked-out commit and a cache alone, so that they can be made again to check
them.

`python -m retrace.capsule.contents <root> <cache> <study> <bundle> <info> <target>` does so with the code of another
commit.
"""

import hashlib
import shutil
import sys
from pathlib import Path

import retrace
from retrace.capsule import crate, repository
from retrace.capsule.card import card
from retrace.capsule.croissant import croissant
from retrace.capsule.facts import Facts, objects, read_facts
from retrace.capsule.sbom import sbom
from retrace.environment import LOCK
from retrace.errors import stage
from retrace.files import dump_json, sha256_of
from retrace.provenance.md5 import Cache

OWN = Path(retrace.__file__).parents[1]
INFO, CACHE = "capsule.json", "cache"
COPIED = ("CITATION.cff", "LICENSE", "dvc.yaml", "dvc.lock", LOCK.as_posix())
Members = dict[str, bytes | Path]


def code_sum(folder: Path) -> str:
    """sha256 of the code that makes a capsule, in the project's `folder`."""
    total = hashlib.sha256()
    for path in sorted((folder / "retrace" / "capsule").glob("*.py")):
        total.update(f"{path.name}\n{sha256_of(path)}\n".encode())
    return total.hexdigest()


def members(root: Path, cache: Cache, study: str, bundle: Path, info: bytes) -> Members:
    """Every file of a capsule, by its name in it.

    Args:
        root: the project in the commit, as the bundle holds it.
        info: content of capsule.json.

    Raises:
        UserError: a file is missing or damaged.
    """
    facts = read_facts(root, cache, study)
    stored = {f"{CACHE}/{name}": path for name, path in objects(facts).items()}
    found: Members = {INFO: info, repository.NAME: bundle, **_copies(root, study)}
    found["croissant.json"] = dump_json(croissant(facts, _data_files(facts, stored))).encode()
    found["sbom.cdx.json"] = dump_json(sbom(facts)).encode()
    found["README.md"] = card(facts).encode()
    listed = {name: _size_and_sum(content) for name, content in found.items()}
    found[crate.NAME] = dump_json(crate.crate(facts, listed)).encode()
    return {**found, **stored}


def _copies(root: Path, study: str) -> Members:
    """Files that the bundle holds too, for those who read the zip without Git."""
    places = [root / name for name in COPIED]
    places += [root / "signatures" / f"{study}.dsse.json", *sorted((root / "metrics" / study).glob("*.json"))]
    for report in (f"reports/{study}", f"reports/{study}-ablation"):
        places += sorted((root / report).rglob("*"))
    return {path.relative_to(root).as_posix(): path for path in places if path.is_file()}


def _data_files(facts: Facts, stored: dict[str, Path]) -> dict[str, tuple[str, str]]:
    """Where in the capsule the files of the raw data and the splits lie, and their sha256, by path in the project."""
    found = {}
    for out in (facts.raw, f"data/{facts.study}/splits"):
        for name, md5 in (facts.cache.listing(facts.record.paths()[out]) or {}).items():
            place = f"{CACHE}/files/md5/{md5[:2]}/{md5[2:]}"
            if place in stored:
                found[f"{out}/{name}"] = (place, sha256_of(stored[place]))
    return found


def _size_and_sum(content: bytes | Path) -> tuple[int, str]:
    if isinstance(content, bytes):
        return len(content), hashlib.sha256(content).hexdigest()
    return content.stat().st_size, sha256_of(content)


def write(found: Members, target: Path) -> None:
    """Write the files into a folder."""
    for name, content in found.items():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            place.write_bytes(content)
        else:
            shutil.copyfile(content, place)


@stage
def main() -> None:
    """Entry point; six arguments, see above."""
    root, cache, study, bundle, info, target = sys.argv[1:]
    write(members(Path(root), Cache(Path(cache)), study, Path(bundle), Path(info).read_bytes()), Path(target))


if __name__ == "__main__":
    main()
