"""The resumable state of a training: one file per saved epoch in .retrace/scratch, found again only by its fingerprint.

The fingerprint covers everything that decides the outcome (parameters, data, starting weights, code, environment lock).
A rerun with the same fingerprint goes on from the last complete checkpoint; any change makes a new folder.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

import retrace
from retrace.config import read_yaml
from retrace.files import CODE, SCRATCH, sha256_of, write_bytes

LOCK = Path("requirements/runtime.txt")
DIGEST = hashlib.sha256().digest_size
KEPT = 2  # the newest may be damaged, then the one before it is used


def fingerprint(stage: str, params: Any, files: Iterable[Path], device: str = "cpu") -> str:
    """Hex sha256 over `params` (JSON-ready), the content of `files`, the code of `stage` and the environment lock.

    stage: "pretrain" or "finetune"; its code is what dvc.yaml lists among its deps.

    files: data and weights that the outcome depends on (the manifest, lists, masks, starting weights).
    device: kind and number, e.g. "cuda x2"; a state is resumed only where its numbers come out alike.
    """
    root = Path(retrace.__file__).parent.parent
    hashes = {f"code/{path.relative_to(root).as_posix()}": sha256_of(path) for path in _code(stage, root)}
    hashes |= {f"file/{path.as_posix()}": sha256_of(path) for path in files}
    hashes["lock"] = sha256_of(LOCK) if LOCK.exists() else "none"
    text = json.dumps({"params": params, "device": device, "hashes": hashes}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _code(stage: str, root: Path, pipeline: Path = Path("dvc.yaml")) -> list[Path]:
    """The Python files of a stage by its deps in dvc.yaml; without that file all of this project's code."""
    places = list(CODE)
    if pipeline.is_file():
        block = read_yaml(pipeline)["stages"][stage]
        places = [dep for dep in block.get("do", block)["deps"] if dep.split("/")[0] in CODE]
    found: set[Path] = set()
    for place in places:
        path = root / place
        found |= set(path.rglob("*.py")) if path.is_dir() else {path}
    return sorted(found)


def state_name(epoch: int) -> str:
    """Name of the file with the state after an epoch."""
    return f"epoch-{epoch:06d}.ckpt"


def states_folder(study: str, name: str, fingerprint: str, root: Path = SCRATCH) -> Path:
    """.retrace/states/<study>/<name>-<fingerprint>/: the states of all epochs, where `machine.keep_states` is set."""
    return root / "states" / study / f"{name}-{fingerprint[:16]}"


class Scratch:
    """The folder .retrace/scratch/<study>/<name>-<fingerprint>/ of one training."""

    def __init__(self, study: str, name: str, fingerprint: str, root: Path = SCRATCH, keeps: bool = False):
        """keeps: the states of all epochs stay in .retrace/states, for `retrace verify --spot`."""
        self.keeps = keeps
        self.kept = states_folder(study, name, fingerprint, root)
        self.folder = root / "scratch" / study / f"{name}-{fingerprint[:16]}"
        self._all = (root / "scratch" / study, f"{name}-{'[0-9a-f]' * 16}")

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Write the state after `epoch` atomically, with its sha256 at the end; keep the newest two."""
        stream = io.BytesIO()
        torch.save(state, stream)
        content = stream.getvalue()
        content += hashlib.sha256(content).digest()
        write_bytes(self.folder / state_name(epoch), content)
        if self.keeps:
            write_bytes(self.kept / state_name(epoch), content)
        for old in self._files()[:-KEPT]:
            old.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """The newest undamaged state on the CPU, or None."""
        for left in sorted(self.folder.glob(".*.tmp")):
            left.unlink(missing_ok=True)
        for path in reversed(self._files()):
            content = path.read_bytes()
            if len(content) > DIGEST and hashlib.sha256(content[:-DIGEST]).digest() == content[-DIGEST:]:
                return torch.load(io.BytesIO(content[:-DIGEST]), map_location="cpu", weights_only=True)
            path.unlink()
        return None

    def remove(self) -> None:
        """Called when the outs are in place: nothing is left to resume, of other fingerprints of this name neither."""
        parent, pattern = self._all
        for folder in sorted(parent.glob(pattern)):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in sorted(self.kept.parent.glob(pattern)):
            if folder != self.kept or not self.keeps:
                shutil.rmtree(folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*.ckpt"))
