"""Install from a lock into the environment of the Python that runs this, with uv. Standard library only.

install.py locks LOCK...             every package of a lock
install.py project FOLDER            the project itself, editable
install.py split LOCK FOLDER         write FOLDER/torch/locked.txt, FOLDER/torch/others.txt and FOLDER/rest.txt
install.py torch FOLDER/torch --index URL    torch from an index of PyTorch's; without a URL: from locked.txt

Every file must have a hash of the lock. Only wheels are installed, but for the one package that has none; it is built
with the lock's own setuptools, which is installed first. Nothing that the lock does not name is fetched or run.

`split` parts torch, torchvision and what only they need (NVIDIA's libraries, Triton) from the rest. From an index of
PyTorch's (.../whl/cpu, .../whl/cu126) they come at the locked versions of torch and torchvision, with what these builds
need. Such wheels have other hashes than the lock: what the index states is checked, and kept in the environment's
torch.txt.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from uv_command import NONE, run_uv

NO_WHEEL = ("antlr4-python3-runtime",)  # the only packages of the lock that may be built here ...
BACKEND = "setuptools"  # ... and with what
NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==")
TORCH = re.compile(r"(torch|torchvision)==([0-9.]+)")
CUDA = re.compile(r"(nvidia-(?!ml-py)[a-z0-9-]+|cuda-[a-z0-9-]+|triton)==")
FOR_TORCH = re.compile(r"# +(via +)?(torch|torchvision)$", re.M)


def blocks(lock: str) -> dict[str, str]:
    """{name: its part of the lock: version, hashes and what needs it}."""
    parts = re.split(r"\n(?=[A-Za-z0-9])", lock.strip("\n"))
    return {match[1]: part for part in parts if (match := NAME.match(part))}


def split(lock: str) -> tuple[str, str, str]:
    """(torch, torchvision and what only they need; all others; names of those others that torch asks for)."""
    parts = blocks(lock)
    torch = {name: part for name, part in parts.items() if TORCH.match(part) or CUDA.match(part)}
    others = [name for name, part in parts.items() if name not in torch and FOR_TORCH.search(part)]
    rest = [part for name, part in parts.items() if name not in torch]
    return "\n".join(torch.values()) + "\n", "\n".join(rest) + "\n", "\n".join(others) + "\n"


def options() -> tuple[str, ...]:
    """What uv is told for every lock: these files and no others, no build but the ones named here."""
    built = [option for name in NO_WHEEL for option in ("--no-binary", name)]
    return ("--no-deps", "--require-hashes", "--no-build-isolation", "--only-binary", ":all:", *built)


def install_lock(lock: Path) -> None:
    """Install every package of a lock; what builds one of them goes first."""
    parts = blocks(lock.read_text(encoding="utf-8"))
    if parts.keys() & set(NO_WHEEL):
        with tempfile.TemporaryDirectory() as folder:
            backend = Path(folder) / "backend.txt"
            backend.write_text(parts[BACKEND] + "\n", encoding="utf-8")
            run_uv("pip", "install", *options(), "-r", str(backend))
    if parts:
        run_uv("pip", "install", *options(), "-r", str(lock))


def install_torch(folder: Path, index: str) -> None:
    """Install the torch part of a split lock: from `index` at the same versions, or as locked if that is empty."""
    record = Path(sys.prefix) / "torch.txt"
    locked = (folder / "locked.txt").read_text(encoding="utf-8")
    if not index:
        install_lock(folder / "locked.txt")
        record.write_text(locked, encoding="utf-8")
        return
    wheels = ("--default-index", index, "--only-binary", ":all:")
    with tempfile.TemporaryDirectory() as name:
        wanted, found = Path(name) / "wanted.in", Path(name) / "torch.txt"
        wanted.write_text("".join(f"{match[0]}\n" for match in map(TORCH.match, blocks(locked).values()) if match))
        names = ("--excludes", str(folder / "others.txt"), "--output-file", str(found))  # the lock has those others
        run_uv(
            "pip", "compile", "--quiet", *wheels, *names, "--generate-hashes", "--no-header", str(wanted), indexes=NONE
        )
        run_uv("pip", "install", *wheels, "--no-deps", "--require-hashes", "-r", str(found), indexes=NONE)
        record.write_text(found.read_text(encoding="utf-8"), encoding="utf-8")
    builds = [part.split()[0] for part in blocks(record.read_text(encoding="utf-8")).values() if TORCH.match(part)]
    print(f"{', '.join(builds)} from {index}; what came with them, with its sha256: {record}")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("locks").add_argument("lock", type=Path, nargs="+")
    commands.add_parser("project").add_argument("folder", type=Path)
    parting = commands.add_parser("split")
    parting.add_argument("lock", type=Path)
    parting.add_argument("folder", type=Path)
    torch = commands.add_parser("torch")
    torch.add_argument("folder", type=Path)
    torch.add_argument("--index", default="")
    given = parser.parse_args()
    if given.command == "locks":
        for lock in given.lock:
            install_lock(lock)
    elif given.command == "project":  # offline: its build needs no more than the lock's setuptools
        run_uv("pip", "install", "--offline", "--no-deps", "--no-build-isolation", "-e", str(given.folder))
    elif given.command == "torch":
        install_torch(given.folder, given.index)
    else:
        (given.folder / "torch").mkdir(parents=True, exist_ok=True)
        names = (Path("torch") / "locked.txt", Path("rest.txt"), Path("torch") / "others.txt")
        for name, text in zip(names, split(given.lock.read_text(encoding="utf-8")), strict=True):
            (given.folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
