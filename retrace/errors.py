"""The one error style: a wrong input ends in one clear message and exit code 1; a bug ends in a traceback.

raise UserError("params.yaml: phases.a.init = 'b': no such phase; allowed: none, pretrain, c")
"""

import functools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

STARTED_HERE = "retrace-"  # how the run id of processes begins that a stage started by itself, and for which it speaks


MOST_SHOWN = 80  # characters of a value in a message


@dataclass(frozen=True)
class Refusal:
    """Why one parameter was refused. key: dotted. value: as given, None where there is none to show."""

    key: str
    value: object
    why: str
    allowed: Sequence[object] = ()

    def __str__(self) -> str:
        shown = "" if self.value is None else repr(self.value)
        shown = shown if len(shown) <= MOST_SHOWN else shown[: MOST_SHOWN - 3] + "..."
        start = " = ".join(filter(None, (self.key, shown)))
        choices = ", ".join(str(choice) for choice in self.allowed)
        return f"{start + ': ' * bool(start)}{self.why}" + (f"; allowed: {choices}" if choices else "")


class UserError(Exception):
    """Something the user can put right. The message says what, where, which values are allowed and what to do.

    refusals: the parameters that the schema refused; `key`, `value` and `allowed` are those of the first.
    """

    def __init__(self, message: str = "", refusals: Sequence[Refusal] = ()):
        super().__init__(message)
        self.refusals = tuple(refusals)
        first = self.refusals[0] if self.refusals else Refusal("", None, "")
        self.key, self.value, self.allowed = first.key, first.value, tuple(first.allowed)

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
