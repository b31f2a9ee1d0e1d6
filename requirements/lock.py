"""Make the locks anew: `python requirements/lock.py [--upgrade]`, in the project's folder. Standard library only.

One version of each package for every supported Python and system, hashes of all its files. Versions that are there are
kept unless --upgrade is given; those of pins.in are kept in any case. dev.txt, ray.txt and tools.txt come on top of
runtime.txt and leave out what is in there.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from install import blocks
from uv_command import DEFAULT, run_uv

FOLDER = Path("requirements")
RUNTIME = FOLDER / "runtime.txt"
COMPILE = (
    *("pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--fork-strategy", "fewest"),
    *("--generate-hashes", "--no-emit-index-url", "--no-header"),
)
EXTRAS = ("yolo", "s3", "ssh", "sign")  # what the studies, their remotes and signatures use


def lock(upgrade: bool) -> None:
    """Write the four locks."""
    kept = ("--upgrade",) if upgrade else ()
    extras = [option for name in EXTRAS for option in ("--extra", name)]
    pins = ("--constraint", str(FOLDER / "pins.in"))
    run_uv(*COMPILE, *kept, *extras, *pins, "-o", str(RUNTIME), "pyproject.toml", indexes=DEFAULT)
    known = [option for name in blocks(RUNTIME.read_text(encoding="utf-8")) for option in ("--no-emit-package", name)]
    for name in ("dev", "ray", "tools"):
        target, source = (str(FOLDER / f"{name}.{ending}") for ending in ("txt", "in"))
        run_uv(*COMPILE, *kept, *known, "--constraint", str(RUNTIME), "-o", target, source, indexes=DEFAULT)


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--upgrade"]):
        sys.exit(__doc__)
    lock(upgrade=bool(sys.argv[1:]))
