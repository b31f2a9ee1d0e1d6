"""Places with results: the working folder, or any Git revision, including DVC experiments."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from retrace.documents.base import checked
from retrace.errors import UserError
from retrace.programs import experiments, git_bytes

WORKSPACE = "workspace"


@dataclass(frozen=True)
class Place:
    """The files of the project in the working folder (`commit` None) or at a commit. Paths are relative to it."""

    name: str
    commit: str | None = None
    experiment: bool = False
    _read: dict[str, bytes | None] = field(default_factory=dict, compare=False, repr=False)
    _parsed: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def read(self, path: str) -> bytes | None:
        """The bytes of a file; None where it does not exist."""
        if path not in self._read:
            if self.commit is None:
                self._read[path] = Path(path).read_bytes() if Path(path).is_file() else None
            else:
                self._read[path] = git_bytes("show", f"{self.commit}:./{path}")
        return self._read[path]

    def names(self, folder: str, suffix: str = "") -> list[str]:
        """Sorted names in a folder that end in `suffix`; without one, the sub-folders."""
        if self.commit is None:
            found = Path(folder).iterdir() if Path(folder).is_dir() else ()
            kept = [path.name for path in found if (path.is_file() if suffix else path.is_dir())]
        else:
            kind = "blob" if suffix else "tree"
            lines = (git_bytes("ls-tree", self.commit, f"./{folder}/") or b"").decode().splitlines()
            kept = [line.split("\t")[1].rpartition("/")[2] for line in lines if line.split()[1] == kind]
        return sorted(name for name in kept if name.endswith(suffix))

    def mapping(self, path: str) -> dict[str, Any]:
        """A JSON or YAML file that holds a mapping; empty where the file does not exist.

        Raises:
            UserError: the file is damaged.
        """
        if path not in self._parsed:
            content = self.read(path)
            try:  # JSON is YAML, but slow as such
                value = _parse(path, content) if content is not None else {}
            except (ValueError, YAMLError) as error:
                raise UserError(f"{path} of {self.name}: cannot be read ({str(error).splitlines()[0]})") from None
            if not isinstance(value, dict):
                raise UserError(f"{path} of {self.name}: must hold a mapping of names to values")
            if path == "dvc.lock" or path.endswith("/provenance.json"):
                checked(dict[str, dict[str, Any]], value.get("stages") or {}, f"{path} of {self.name}", "`dvc repro`")
            self._parsed[path] = value
        return self._parsed[path]


def _parse(path: str, content: bytes) -> Any:
    if path.endswith(".json"):
        import json

        return json.loads(content)
    return YAML(typ="safe", pure=True).load(content.decode())


def revision(name: str) -> Place | None:
    """The place of a commit, branch, tag or experiment; None where there is none of this name.

    Raises:
        UserError: several experiments have this name.
    """
    found = git_bytes("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if found is not None:
        return Place(name, found.decode().strip())
    commits = sorted({row.commit for row in experiments() if row.name == name})
    if len(commits) > 1:
        raise UserError(f"{name!r}: several experiments have this name; give the commit: {', '.join(commits)}")
    return Place(name, commits[0], experiment=True) if commits else None
