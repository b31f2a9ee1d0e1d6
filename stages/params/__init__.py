"""The typed schema of params.yaml: `from stages.params import load`."""

from stages.params.load import PARAMS, load, merge, parse, read_yaml
from stages.params.schema import Params

__all__ = ["PARAMS", "Params", "load", "merge", "parse", "read_yaml"]
