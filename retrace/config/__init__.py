"""The typed schema of params.yaml.

`retrace.config.load` gives the whole, `retrace.config.training` what a training depends on.
"""

from retrace.config.reading import PARAMS, merge, read_yaml, whole

__all__ = ["PARAMS", "merge", "read_yaml", "whole"]
