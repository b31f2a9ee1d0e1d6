"""The one error style: a wrong input ends in one clear message and exit code 1; a bug ends in a traceback.

raise UserError("params.yaml: phases.a.init = 'b': no such phase; allowed: none, pretrain, c")
"""

import functools
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can put right. The message says what, where, which values are allowed and what to do."""


def stage(main: Callable[..., None]) -> Callable[..., None]:
    """Wrap a stage's or command's entry: a `UserError` is printed to stderr without a traceback, exit code 1."""

    @functools.wraps(main)
    def guarded(*args, **kwargs) -> None:
        try:
            main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(1) from None
        except KeyboardInterrupt:
            print("interrupted: run the same command again to go on from the last complete epoch", file=sys.stderr)
            raise SystemExit(130) from None

    return guarded
