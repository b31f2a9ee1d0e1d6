"""The whole of params.yaml as one typed object."""

from pathlib import Path

from retrace.config.reading import PARAMS, Values, read_params, whole
from retrace.config.refusals import validated
from retrace.config.schema import Params


def parse(values: Values, name: str = "params.yaml") -> Params:
    """Validate the values of a study file or of params.yaml, which `name` calls in messages.

    Raises `UserError` with the key, the value and what is allowed.
    """
    return validated(Params, whole(values, name), name)


def load(path: Path = PARAMS) -> Params:
    """The typed parameters of the project in the current folder; `UserError` as for `parse`."""
    return validated(Params, read_params(path), str(path))
