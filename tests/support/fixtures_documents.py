"""Whole documents for tests that care for a few of their keys; the models say which keys there are."""

from typing import Any

from retrace.documents.ablation import AblationResult
from retrace.documents.derived import Audit, Classes, Derived, Log
from retrace.documents.provenance import Git, Lock, Provenance, Run
from retrace.documents.training import Training


def training(**given: Any) -> Training:
    """train.json of two epochs, with the given values."""
    known: dict[str, Any] = {"init": "none", "monitor": "mIoU", "best_epoch": 2, "best_value": 0.5}
    known |= {"epochs_run": 2, "epochs_planned": 2, "stopped": "completed"}
    known |= {"first_loss": 1.0, "last_loss": 0.5, "parameters": 1, "trainable_parameters": 1}
    return Training(**known | given)


def provenance(**given: Any) -> Provenance:
    """provenance.json of a run on nothing in particular, with the given values."""
    git = Git(commit=None, dirty=None, changed=[])
    known: dict[str, Any] = {"seed": 1, "threads": 1, "lock": Lock(file="lock", sha256=None)}
    known |= {"stages": {}, "packages": {}, "python": "3.11", "git": git, "platform": "Linux"}
    known |= {"devices": ["cpu"], "run": Run(stages={})}
    return Provenance(**known | given)


def ablation(**given: Any) -> AblationResult:
    """ablation.json without a factor, with the given values."""
    known: dict[str, Any] = {"study": "lanes", "phase": "colder", "task": "segmentation"}
    known |= {"design": "full", "headline": "mIoU", "split": "test", "images": 20, "units": 20}
    known |= {"seeds": [17, 18], "factors": {}, "runs": [], "effects": {}, "interactions": {}}
    return AblationResult.model_validate(known | {"together": None, "most": {}} | given)


def derived(**given: Any) -> Derived:
    """derived.json of a study without comparisons, with the given values."""
    audit = Audit(images=0, left_out=0, moved=0, moves=[], leaks={}, problems=[], box_sizes=None)
    known: dict[str, Any] = {"comparisons": {}, "groups": {}, "final": {}, "training": {}}
    known |= {"classes": Classes(count=0, predicted={}), "audit": audit, "claims": [], "lists": None}
    known |= {"log": Log(convergence={}, ultralytics={}), "checks": [], "bundle": []}
    return Derived(**known | given)
