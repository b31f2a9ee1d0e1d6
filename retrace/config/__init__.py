"""The typed schema of params.yaml: `from retrace.config import load`."""

from retrace.config.load import PARAMS, load, merge, parse, read_yaml, whole
from retrace.config.schema import Params

__all__ = ["PARAMS", "Params", "load", "merge", "parse", "read_yaml", "whole"]
