"""The six stages that dvc.yaml runs, one script each: `python -m stages.collect`, ..., `python -m stages.report`."""

import retrace  # noqa: F401  sets the environment variables of the numerical libraries before any of them loads
