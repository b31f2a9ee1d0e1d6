"""The packages of the lock that a machine without a network lacks: carried as wheels, put beside the others."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from benchmarks.gpu import ROOT

LOCK = ROOT / "requirements" / "runtime.txt"
# what the stages import, beside what an image with PyTorch, timm and Lightning holds
NEEDED = (
    "annotated-types",
    "faster-coco-eval",
    "imagehash",
    "lightning-fabric",
    "pydantic",
    "pydantic-core",
    "pywavelets",
    "ruamel-yaml",
    "segmentation-models-pytorch",
    "typing-inspection",
)
PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^ ;\\]+)", re.MULTILINE)


def locked() -> dict[str, str]:
    """{package: version} of the lock."""
    return dict(PINNED.findall(LOCK.read_text(encoding="utf-8")))


def versions() -> dict[str, tuple[str, str | None]]:
    """{package: (version of the lock, version here)} of the packages that differ and are needed or set the results.

    None: not installed.
    """
    lock = locked()
    named = (
        "torch",
        "torchvision",
        "timm",
        "numpy",
        "scipy",
        "opencv-python-headless",
        "pillow",
        "ultralytics",
        *NEEDED,
    )
    found = {}
    for name in named:
        try:
            here = metadata.version(name)
        except metadata.PackageNotFoundError:
            here = None
        if name in lock and (here is None or here.partition("+")[0] != lock[name]):
            found[name] = (lock[name], here)
    return found


def gather(folder: Path, python: str = "3.12") -> None:
    """Download the wheels of `NEEDED`, with the lock's versions and hashes, for x86-64 Linux (`make gpu-wheels`)."""
    sys.path.insert(0, str(ROOT / "requirements"))
    from install import blocks

    parts = blocks(LOCK.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    wanted = folder / "requirements.txt"
    wanted.write_text("\n".join(parts[name] for name in NEEDED) + "\n", encoding="utf-8")
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (28, 27, 17)] + [
        "--platform=manylinux2014_x86_64"
    ]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *platforms]
    subprocess.run([*command, "--requirement", str(wanted), "--dest", str(folder)], check=True)


def install(folder: Path, target: Path) -> list[str]:
    """Install the carried wheels of packages that are not here into a folder; their names."""
    missing = [name for name, (_, here) in versions().items() if here is None and name in NEEDED]
    wheels = []
    for path in sorted(folder.glob("*.whl")):
        if re.sub(r"[-_.]+", "-", path.name.partition("-")[0]).lower() in missing:
            wheels.append(path)
    if wheels:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", f"--target={target}"]
        subprocess.run([*command, *map(str, wheels)], check=True)
    return missing


if __name__ == "__main__":
    gather(Path(sys.argv[1]))
