"""docs/formats.md: the keys of every document, from the models themselves.

`retrace compare --write` writes them between `<!-- retrace:format <name> begin -->` and its end.
"""

import ast
import inspect
import re
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from retrace.documents.ablation import AblationResult
from retrace.documents.base import Part
from retrace.documents.capsule import CapsuleInfo
from retrace.documents.dataset import Dataset
from retrace.documents.derived import Derived
from retrace.documents.error_pictures import ErrorPicture
from retrace.documents.gpu import GpuNeeds
from retrace.documents.hashes import Hashes, StepHashes
from retrace.documents.labels import LabelCheck
from retrace.documents.manifest import Record
from retrace.documents.parameters import Parameters
from retrace.documents.prediction import Prediction
from retrace.documents.provenance import Provenance
from retrace.documents.report_files import ReportFiles
from retrace.documents.run_log import RunLog
from retrace.documents.samples import Sample
from retrace.documents.scores import DetectionScores, SegmentationScores
from retrace.documents.speed import Speed
from retrace.documents.splits import SplitSummary
from retrace.documents.start import Start
from retrace.documents.statement import Envelope, Statement
from retrace.documents.status import Status
from retrace.documents.training import Training
from retrace.statistics.estimate import Difference, Estimate, Interval

SHARED = (Interval, Estimate, Difference)  # described once
FORMATS: dict[str, tuple[type, ...]] = {
    "interval": SHARED,
    "manifest": (Record,),
    "dataset": (Dataset,),
    "splits": (SplitSummary,),
    "start": (Start,),
    "training": (Training,),
    "hashes": (Hashes, StepHashes),
    "scores": (SegmentationScores, DetectionScores),
    "samples": (Sample,),
    "errors": (ErrorPicture,),
    "speed": (Speed,),
    "run_log": (RunLog,),
    "status": (Status,),
    "parameters": (Parameters,),
    "derived": (Derived,),
    "provenance": (Provenance,),
    "report_files": (ReportFiles,),
    "capsule": (CapsuleInfo,),
    "statement": (Envelope, Statement),
    "ablation": (AblationResult,),
    "prediction": (Prediction,),
    "label_check": (LabelCheck,),
    "gpu": (GpuNeeds,),
}


def page(name: str) -> str:
    """The tables of one format, Markdown; raises KeyError for an unknown name."""
    done: set[type] = set() if FORMATS[name] is SHARED else {*SHARED}
    tables: list[str] = []
    for kind in FORMATS[name]:
        for part in _with_parts(kind, done):
            tables.append(_table(part))
    return "\n\n".join(tables)


def _with_parts(kind: type, done: set[type]) -> Iterator[type]:
    """A model and, after it, those of its fields, each once."""
    if kind in done:
        return
    done.add(kind)
    yield kind
    for hint in typing.get_type_hints(kind).values():
        for part in _models(hint):
            yield from _with_parts(part, done)


def _models(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and hint.__module__.startswith("retrace."):
        yield hint
    for argument in typing.get_args(hint):
        yield from _models(argument)


def _table(kind: type) -> str:
    rows = [f"| {key} | {_cell(type_)} | {_cell(meaning)} |" for key, type_, meaning in _rows(kind)]
    head = f"**{kind.__name__}**: {_text(inspect.getdoc(kind) or '')}"
    return "\n".join([head, "", "| key | type | meaning |", "| --- | --- | --- |", *rows])


def _rows(kind: type) -> Iterator[tuple[str, str, str]]:
    """(key, type, meaning) of every field, those of the base classes first."""
    notes: dict[str, tuple[str, str]] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("retrace.") and base is not Part:
            notes |= _notes(base)
    fields = kind.model_fields if issubclass(kind, BaseModel) else {}
    for name, (type_, meaning) in notes.items():
        field = fields.get(name)
        key = field.serialization_alias if field is not None else None
        yield f"`{key or name}`" if field is not None or not fields else name, type_, meaning


def _notes(kind: type) -> dict[str, tuple[str, str]]:
    """{field: (type as written, comment behind it)} of a class body."""
    source = inspect.getsource(kind)
    lines = source.splitlines()
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for node in tree.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        type_ = ast.unparse(node.annotation)
        if type_.startswith("ClassVar"):
            continue
        comment = re.search(r"  # (.*)$", lines[(node.end_lineno or node.lineno) - 1])
        name = node.target.id
        if name == "__pydantic_extra__":
            name, type_ = "every other key", type_.removeprefix("dict[str, ").removesuffix("]")
        found[name] = (type_, comment[1] if comment else "")
    return found


def _text(doc: str) -> str:
    return re.sub(r"\s*\n\s*", " ", doc).strip()


def _cell(text: str) -> str:
    return text.replace("|", "or")
