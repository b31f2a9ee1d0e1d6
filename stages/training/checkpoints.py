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

import stages
from stages.files import SCRATCH, sha256_of, write_bytes

LOCK = Path("requirements/runtime.txt")
DIGEST = hashlib.sha256().digest_size
KEPT = 2  # the newest may be damaged, then the one before it is used


def fingerprint(params: Any, files: Iterable[Path], device: str = "cpu") -> str:
    """Hex sha256 over `params` (JSON-ready), the content of `files`, the package's code and the environment lock.

    files: data and weights that the outcome depends on (the manifest, lists, masks, starting weights).
    device: kind and number, e.g. "cuda x2"; a state is resumed only where its numbers come out alike.
    """
    package = Path(stages.__file__).parent
    hashes = {f"code/{path.relative_to(package).as_posix()}": sha256_of(path) for path in sorted(package.rglob("*.py"))}
    hashes |= {f"file/{path.as_posix()}": sha256_of(path) for path in files}
    hashes["lock"] = sha256_of(LOCK) if LOCK.exists() else "none"
    text = json.dumps({"params": params, "device": device, "hashes": hashes}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Scratch:
    """The folder .retrace/scratch/<study>/<name>-<fingerprint>/ of one training."""

    def __init__(self, study: str, name: str, fingerprint: str, root: Path = SCRATCH):
        self.folder = root / "scratch" / study / f"{name}-{fingerprint[:16]}"
        self._others = (root / "scratch" / study, f"{name}-{'[0-9a-f]' * 16}")

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Write the state after `epoch` atomically, with its sha256 at the end; keep the newest two."""
        stream = io.BytesIO()
        torch.save(state, stream)
        content = stream.getvalue()
        write_bytes(self.folder / f"epoch-{epoch:06d}.ckpt", content + hashlib.sha256(content).digest())
        for old in self._files()[:-KEPT]:
            old.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """The newest undamaged state on the CPU, or None. States of other fingerprints of this name are deleted."""
        parent, pattern = self._others
        for other in sorted(parent.glob(pattern)):
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)
        for left in sorted(self.folder.glob(".*.tmp")):
            left.unlink(missing_ok=True)
        for path in reversed(self._files()):
            content = path.read_bytes()
            if len(content) > DIGEST and hashlib.sha256(content[:-DIGEST]).digest() == content[-DIGEST:]:
                return torch.load(io.BytesIO(content[:-DIGEST]), map_location="cpu", weights_only=True)
            path.unlink()
        return None

    def remove(self) -> None:
        """Called when the outs are in place: nothing is left to resume."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*.ckpt"))
