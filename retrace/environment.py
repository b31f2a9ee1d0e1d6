"""Which environment this is: the lock, what is really installed, and the image it was built into."""

import hashlib
import os
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from retrace.errors import UserError, stage

LOCK = Path("requirements/runtime.txt")
IMAGE_LOCK = Path("/usr/local/share/retrace/runtime.txt")  # what an image was built from, see the Dockerfiles
PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*==[^\\\n]+)", re.M)  # without the hashes, which follow a backslash
CUDA = re.compile(r"nvidia-(?!ml-py).*|cuda-.*|triton")


def lock_hash(lock: Path = LOCK) -> str | None:
    """sha256 of the lock file, or None where there is none."""
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None


def differences(lock: Path = LOCK) -> list[str]:
    """Installed packages that are not what the lock says for this Python and system, one line each, sorted by name.

    Another build of torch (2.14.1+cpu, +cu126) counts as the locked release, and brings other CUDA packages or none.
    """
    if not lock.is_file():
        return [f"{lock}: no such file"]
    ours = {name: pin for name, pin in pins(lock).items() if pin.marker is None or pin.marker.evaluate()}
    if "+" in (_installed("torch") or ""):
        ours = {name: pin for name, pin in ours.items() if not CUDA.fullmatch(name)}
    lines = []
    for name, pin in sorted(ours.items()):
        found = _installed(name)
        if found is None or not pin.specifier.contains(found, prereleases=True):
            wanted = str(pin.specifier).removeprefix("==")
            lines.append(f"{name}: locked {wanted}, installed {found or 'nothing'}")
    return lines


def pins(lock: Path = LOCK) -> dict[str, Requirement]:
    """{name: what the lock asks for}, its marker for the Pythons and systems that need it included."""
    found = map(Requirement, PIN.findall(lock.read_text(encoding="utf-8")))
    return {requirement.name: requirement for requirement in found}


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def require_matching_image() -> None:
    """Inside a Retrace image: its baked-in lock must be the one of the mounted repository, or it is a `UserError`.

    `RETRACE_ALLOW_UNPINNED=1` (the image's `--allow-unpinned`) goes on all the same; provenance records it.
    """
    image = describe_image()
    if image is None or not image.unpinned or os.environ.get("RETRACE_ALLOW_UNPINNED") == "1":
        return
    raise UserError(
        f"this image ({image.name}) was built from another {LOCK} (sha256 {image.lock_sha256[:12]}) "
        f"than the one mounted here ({(lock_hash() or 'none')[:12]}); rebuild it with `make image-cpu` or "
        "`make image-cuda`, or put --allow-unpinned before the command to go on and have the report say so"
    )


@dataclass(frozen=True)
class Image:
    """A container image; `unpinned`: its lock file is not the repository's."""

    name: str
    lock_sha256: str
    git_revision: str | None
    unpinned: bool


def describe_image() -> Image | None:
    """What journals and provenance record of the image; None outside one."""
    # the variable is empty in an image built without the argument, and the entry point, which sets it, may be bypassed
    baked = os.environ.get("RETRACE_LOCK_SHA256") or lock_hash(IMAGE_LOCK)
    if not baked:
        return None
    return Image(
        name=os.environ.get("RETRACE_IMAGE") or "unnamed",
        lock_sha256=baked,
        git_revision=os.environ.get("RETRACE_GIT_REVISION") or None,
        unpinned=baked != lock_hash(),
    )


def unpinned_mark() -> dict[str, bool]:
    """`{"unpinned": True}` for an out made in an image of another lock, else nothing: pinned outs keep their bytes.

    Outs travel with the cache; journals, which say the same, stay on the machine that ran the step.
    """
    image = describe_image()
    return {"unpinned": True} if image and image.unpinned else {}


if __name__ == "__main__":
    stage(require_matching_image)()
