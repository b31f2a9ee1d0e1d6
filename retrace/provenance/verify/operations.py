"""Which numerical operations give other bits here than in the record, before the time of a training is spent."""

import subprocess
import sys

from retrace.errors import UserError
from retrace.programs import environment, last_line
from retrace.provenance.verify.probe import differing, recorded


def differing_here() -> tuple[list[str], int]:
    """Names of the operations that part from probe.txt on this processor, and how many were probed.

    The probe runs in a process of its own, because it sets threads and numerics for all of it.

    Raises:
        UserError: the probe could not run.
    """
    words = [sys.executable, "-P", "-m", "retrace.provenance.verify.probe"]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"the probe of numerical operations failed: {last_line(done.stderr) or 'no reason given'}")
    found = {name: digest for name, digest in (line.rsplit(maxsplit=1) for line in done.stdout.splitlines() if line)}
    wanted = recorded()
    return differing(found, wanted), len({*found, *wanted})


def sentence(names: list[str], total: int) -> str:
    """What the probe says about the rerun that follows."""
    if not names:
        return f"probe: all {total} numerical operations give the recorded bits on this machine"
    return (
        f"probe: {len(names)} of {total} numerical operations give other bits on this machine than in the record, "
        f"so trained weights will probably differ: {', '.join(names)}"
    )
