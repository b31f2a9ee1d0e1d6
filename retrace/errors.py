"""The one error style: a wrong input ends in one clear message and exit code 1; a bug ends in a traceback.

raise UserError("params.yaml: phases.a.init = 'b': no such phase; allowed: none, pretrain, c")
"""

import functools
import os
import sys
from collections.abc import Callable

STARTED_HERE = "retrace-"  # how the run id of processes begins that a stage started by itself, and for which it speaks


class UserError(Exception):
    """Something the user can put right. The message says what, where, which values are allowed and what to do."""

    def is_said_here(self) -> bool:
        """Whether this process prints the message: of several that `torchrun` started on a machine, its first."""
        return first_on_machine()


class FailedHere(UserError):
    """This process is the first of several to fail, so it speaks for all."""

    def is_said_here(self) -> bool:
        return True


class FailedElsewhere(UserError):
    """Another process failed first and has said why."""

    def is_said_here(self) -> bool:
        return False


def first_on_machine() -> bool:
    """Whether this is the only process, or the first of those that `torchrun` started on this machine."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("LOCAL_RANK") == "0"


def stage(main: Callable[..., None]) -> Callable[..., None]:
    """Wrap a stage's or command's entry: a `UserError` is printed to stderr without a traceback, exit code 1."""

    @functools.wraps(main)
    def guarded(*args, **kwargs) -> None:
        try:
            main(*args, **kwargs)
        except UserError as error:
            if error.is_said_here():
                print(f"error: {error}", file=sys.stderr)
            raise SystemExit(1) from None
        except KeyboardInterrupt:
            if first_on_machine() and not os.environ.get("TORCHELASTIC_RUN_ID", "").startswith(STARTED_HERE):
                print("interrupted: run the same command again to go on from the last complete epoch", file=sys.stderr)
            raise SystemExit(130) from None

    return guarded
