"""sbom.cdx.json: the environment lock and the models in CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/)."""

import hashlib
import re
import uuid

from packaging.requirements import Requirement

from retrace import __version__
from retrace.capsule.facts import LICENSE, Facts
from retrace.documents.scores import Scores
from retrace.environment import LOCK

ENTRY = re.compile(r"^(?P<pin>[A-Za-z0-9][^\\\n]*==[^\\\n]+?) *\\?\n(?P<rest>(?: .*\n?)*)", re.M)
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
VIA = re.compile(r"^ +# +(?:via +)?([A-Za-z0-9][\w.-]*)", re.M)
PROJECT = "retrace"
TASKS = {"segmentation": "image segmentation", "detection": "object detection"}


def sbom(facts: Facts) -> dict[str, object]:
    """The document; its serial number follows from the lock and the commit, so it is the same each time."""
    text = (facts.root / LOCK).read_text(encoding="utf-8")
    packages, needed_by = packages_of(text)
    models = [_model(facts, name) for name in sorted(facts.scores)]
    serial = uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(f"{facts.commit}\n{text}".encode()).hexdigest())
    project: dict[str, object] = {
        "type": "application",
        "bom-ref": PROJECT,
        "name": PROJECT,
        "version": __version__,
        "licenses": [{"license": {"id": LICENSE}}],
    }
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": project, "timestamp": facts.date},
        "components": [*packages, *models],
        "dependencies": dependencies_of(packages, needed_by),
    }


def packages_of(text: str) -> tuple[list[dict[str, object]], dict[str, list[str]]]:
    """A component for each package of a lock, and by package those that ask for it."""
    found, needed_by = [], {}
    for entry in ENTRY.finditer(text):
        pin = Requirement(entry["pin"])
        version = str(pin.specifier).removeprefix("==")
        reference = f"pkg:pypi/{pin.name.lower().replace('_', '-')}@{version}"
        hashes = [{"alg": "SHA-256", "content": content} for content in HASH.findall(entry["rest"])]
        component: dict[str, object] = {
            "type": "library",
            "bom-ref": reference,
            "name": pin.name,
            "version": version,
            "purl": reference,
            "externalReferences": [{"type": "distribution", "url": reference, "hashes": hashes}],
        }
        if pin.marker is not None:
            component["scope"] = "optional"  # on some systems and Pythons only
            component["properties"] = [{"name": "retrace:marker", "value": str(pin.marker)}]
        found.append(component)
        needed_by[reference] = VIA.findall(entry["rest"])
    return found, needed_by


def dependencies_of(packages: list[dict[str, object]], needed_by: dict[str, list[str]]) -> list[dict[str, object]]:
    references = {str(package["name"]): str(package["bom-ref"]) for package in packages} | {PROJECT: PROJECT}
    asks: dict[str, set[str]] = {reference: set() for reference in references.values()}
    for reference, names in needed_by.items():
        for name in names:
            if name in references:
                asks[references[name]].add(reference)
    return [{"ref": reference, "dependsOn": sorted(asks[reference])} for reference in sorted(asks)]


def _model(facts: Facts, training: str) -> dict[str, object]:
    """The weights of a training, with their scores: CycloneDX calls this part an ML-BOM."""
    scores = facts.scores[training]
    name = f"models/{facts.study}/{training}"
    return {
        "type": "machine-learning-model",
        "bom-ref": name,
        "name": f"{facts.study}-{training}",
        "version": facts.commit[:12],
        "hashes": [{"alg": "SHA-256", "content": scores.weights.sha256}],
        "modelCard": {
            "modelParameters": {
                "task": TASKS[scores.task],
                "approach": {"type": "supervised"},
                "datasets": [{"type": "dataset", "name": f"{facts.study}-data"}],
            },
            "quantitativeAnalysis": {"performanceMetrics": _performance(facts, scores)},
        },
    }


def _performance(facts: Facts, scores: Scores) -> list[dict[str, object]]:
    rows = []
    for split in scores.splits:
        estimate = scores.metric(facts.params.report.headline, split)
        if estimate.value is None:
            continue
        row: dict[str, object] = {"type": facts.params.report.headline, "value": str(estimate.value), "slice": split}
        if estimate.low is not None and estimate.high is not None:
            row["confidenceInterval"] = {"lowerBound": str(estimate.low), "upperBound": str(estimate.high)}
        rows.append(row)
    return rows
