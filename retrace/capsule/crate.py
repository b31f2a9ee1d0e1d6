"""ro-crate-metadata.json: the capsule as a Workflow Run Crate 0.6 (https://w3id.org/ro/wfrun/workflow/0.6)."""

from datetime import datetime, timedelta

from retrace.capsule.facts import LICENSE, Facts

NAME = "ro-crate-metadata.json"
CRATE = "https://w3id.org/ro/crate/1.3"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.6": ("Process Run Crate", "0.6"),
    "https://w3id.org/ro/wfrun/workflow/0.6": ("Workflow Run Crate", "0.6"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.1": ("Workflow RO-Crate", "1.1"),
}
WORKFLOW, RUN, ENGINE, CACHE = "dvc.yaml", "#run", "#dvc", "cache/"
LICENSE_ID = f"https://spdx.org/licenses/{LICENSE}"
KINDS = {
    **{"json": "application/json", "md": "text/markdown", "html": "text/html", "csv": "text/csv"},
    **{"svg": "image/svg+xml", "png": "image/png", "jpg": "image/jpeg", "yaml": "application/yaml"},
    **{"lock": "application/yaml", "cff": "application/yaml"},
}
Entity = dict[str, object]


def crate(facts: Facts, files: dict[str, tuple[int, str]]) -> Entity:
    """The document.

    Args:
        files: (bytes, sha256) of every file of the capsule except this one and the objects in cache/, by its name.
    """
    parts = [CACHE, *sorted(files)]
    root: Entity = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"{facts.study}: {facts.params.report.title}",
        "description": f"All that it takes to check the results of the study {facts.study} at commit {facts.commit}.",
        "datePublished": facts.date,
        "license": {"@id": LICENSE_ID},
        "conformsTo": [{"@id": profile} for profile in PROFILES],
        "hasPart": [{"@id": name} for name in parts],
        "mainEntity": {"@id": WORKFLOW},
        "mentions": [{"@id": RUN}],
    }
    start: Entity = {
        "@id": NAME,
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": CRATE},
    }
    graph = [start, root, *_profiles(), *_context(facts), _action(facts, parts), _objects()]
    graph += [_file(name, *files[name]) for name in sorted(files)]
    return {"@context": f"{CRATE}/context", "@graph": graph}


def _profiles() -> list[Entity]:
    return [
        {"@id": profile, "@type": "CreativeWork", "name": name, "version": version}
        for profile, (name, version) in PROFILES.items()
    ]


def _context(facts: Facts) -> list[Entity]:
    return [
        {"@id": LICENSE_ID, "@type": "CreativeWork", "name": LICENSE, "description": "License of the code"},
        {
            "@id": ENGINE,
            "@type": "ComputerLanguage",
            "name": "DVC pipeline",
            "identifier": {"@id": "https://dvc.org/"},
            "url": {"@id": "https://dvc.org/"},
            "version": facts.origin.packages.get("dvc", "unknown"),
        },
    ]


def _action(facts: Facts, parts: list[str]) -> Entity:
    made = [name for name in parts if name == CACHE or name.startswith(("metrics/", "reports/"))]
    given = [name for name in parts if name in ("croissant.json", "requirements/runtime.txt")]
    action: Entity = {
        "@id": RUN,
        "@type": "CreateAction",
        "name": f"Run of the study {facts.study}",
        "instrument": {"@id": WORKFLOW},
        "object": [{"@id": name} for name in given],
        "result": [{"@id": name} for name in made],
        "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
    }
    run = facts.origin.run
    if run.started is not None:
        action["startTime"] = run.started
        if run.seconds is not None:
            ended = datetime.fromisoformat(run.started) + timedelta(seconds=run.seconds)
            action["endTime"] = ended.isoformat(timespec="seconds")
    return action


def _objects() -> Entity:
    return {
        "@id": CACHE,
        "@type": "Dataset",
        "name": "DVC cache",
        "description": "Outputs that Git does not hold, each named by the md5 of its bytes; dvc.lock and "
        "reports/*/provenance.json say which output is which.",
    }


def _file(name: str, size: int, sha256: str) -> Entity:
    entity: Entity = {
        "@id": name,
        "@type": "File",
        "name": name.rpartition("/")[2],
        "contentSize": str(size),
        "sha256": sha256,
    }
    kind = KINDS.get(name.rpartition(".")[2])
    if kind is not None:
        entity["encodingFormat"] = kind
    if name != WORKFLOW:
        return entity
    workflow: Entity = {
        "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
        "name": "The six stages of a study",
        "programmingLanguage": {"@id": ENGINE},
        "license": {"@id": LICENSE_ID},
    }
    return entity | workflow
