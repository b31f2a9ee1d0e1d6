"""Find numerical operations with other bits on this machine: `python -m retrace.provenance.verify.probe [--check]`.

Prints one line per operation, its name and the first 16 digits of a sha256 over its outputs: forward and gradients of
what the studies' networks, losses, optimizers, data preparation and statistics are made of, at `runtime.threads` 2.
`--check` compares with the digests in probe.txt, which every x86-64 processor with AVX2 reproduces under
`runtime.numerics: portable`, and ends with exit code 1 where one differs. Inputs are integers from NumPy's PCG64
scaled by powers of two, the same bits everywhere.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from retrace.config.machine import Runtime
from retrace.errors import UserError, stage
from retrace.numerics import cpu_model
from retrace.seeds import make_deterministic

DIGESTS = Path(__file__).with_name("probe.txt")
Digest = tuple[str, str]


def run() -> Iterator[Digest]:
    """(operation, digest) of every operation, in a fixed order; takes a few seconds."""
    make_deterministic(Runtime(threads=2))
    from retrace.provenance.verify import probe_operations

    for group in probe_operations.GROUPS:
        for name, arrays in group():
            content = b"".join(array.tobytes() for array in arrays)
            yield name, hashlib.sha256(content).hexdigest()[:16]


def recorded(file: Path = DIGESTS) -> dict[str, str]:
    """Operation -> digest, as committed."""
    rows = (line.rsplit(maxsplit=1) for line in file.read_text(encoding="utf-8").splitlines() if line)
    return {name: digest for name, digest in rows}


def differing(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """Names of the operations whose digests differ or that one side lacks, in the order of `wanted`."""
    names = [*wanted, *(name for name in found if name not in wanted)]
    return [name for name in names if found.get(name) != wanted.get(name)]


@stage
def main(check: bool, show: Callable[[str], None] = print) -> None:
    """Print every digest; with `check` compare them with the committed ones."""
    found = {}
    for name, digest in run():
        found[name] = digest
        show(f"{name:44} {digest}")
    if check:
        names = differing(found, recorded())
        if names:
            raise UserError(
                f"{len(names)} of {len(found)} operations give different bits on this processor"
                f" ({cpu_model() or 'unnamed'}): {', '.join(names)}"
            )
        show(f"all {len(found)} operations give the recorded bits")


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--check"]):
        raise SystemExit("usage: python -m retrace.provenance.verify.probe [--check]")
    main(bool(sys.argv[1:]))
