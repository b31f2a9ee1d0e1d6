"""Names of trainings: `<phase>` for the first of a phase, `<phase>-<seed>` for a repeat.

A phase has no `-` in its name.
"""


def repeat_name(phase: str, seed: int) -> str:
    """The name of a phase's repeat with another seed: of its folders, and of its stages in dvc.yaml."""
    return f"{phase}-{seed}"


def phase_of(training: str) -> str:
    """The phase that a training trains."""
    return training.partition("-")[0]


def stage_of(step: str, training: str) -> str:
    """The stage in dvc.yaml that is the `finetune` or `evaluate` of a training."""
    return f"{step}@{training}" if phase_of(training) == training else f"{step}_repeat@{training}"
