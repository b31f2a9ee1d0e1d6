"""bundles/<study>/: the active phase's weights, training log, settings, scores and a guide, ready to be shared.

The weights are large, so DVC caches the folder and Git does not hold it: `dvc repro` or `dvc pull` fills it. The guide
is also part of the report.
"""

import hashlib
import io
import shutil
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from retrace.documents.derived import BundleFile, Derived
from retrace.documents.provenance import Provenance
from retrace.errors import UserError
from retrace.files import dump_json, sha256_of, write_bytes
from retrace.programs import how_to_get
from retrace.report import checks, data_tables, method, run_tables, tables, training_log
from retrace.report.blocks import Bullets, Page, Section, Table, Text, cell, section
from retrace.report.inputs import Inputs
from retrace.report.numbers import Ledger

GUIDE = "REPRODUCTION_GUIDE.md"
RESULTS, CONFIG, SCORES = "training_results.csv", "training_config.yaml", "per_class_metrics.json"
WHAT = {
    RESULTS: "results of every training epoch",
    CONFIG: "all settings of the training",
    SCORES: "scores of every class on every split, with intervals and counts",
    "model.json": "network description, needed to load the weights file",
}


def folder(study: str) -> Path:
    """bundles/<study>"""
    return Path("bundles", study)


def contents(inputs: Inputs) -> dict[str, Path | bytes]:
    """`{name: path to copy, or content}` of every file of the bundle except the guide.

    Raises:
        UserError: one of the files is missing in the phase's folder.
    """
    phase = inputs.params.phase
    shipped = Path("models", inputs.study, phase)
    listed: dict[str, Path | bytes] = {inputs.active.weights.file: shipped / inputs.active.weights.file}
    if inputs.params.phases[phase].engine == "ultralytics":
        listed[CONFIG] = shipped / CONFIG
    else:
        listed["model.json"] = shipped / "model.json"
        listed[CONFIG] = _settings(inputs)
    listed[RESULTS] = shipped / "history.csv"
    listed[SCORES] = dump_json(_scores(inputs)).encode()
    for path in listed.values():
        if isinstance(path, Path) and not path.is_file():
            raise UserError(f"{path}: no such file; run {how_to_get(str(path), f'dvc repro finetune@{phase}')}")
    return listed


def _settings(inputs: Inputs) -> bytes:
    block = inputs.params.phases[inputs.params.phase].model_dump(mode="json")
    stream = io.BytesIO()
    YAML().dump({"study": inputs.study, "phase": inputs.params.phase, "seed": inputs.params.seed, **block}, stream)
    return stream.getvalue()


def _scores(inputs: Inputs) -> dict[str, Any]:
    whole = inputs.active.content()
    head = {name: whole[name] for name in ("study", "phase", "weights", "min_reliable")}
    splits = whole["splits"].items()
    return head | {"splits": {name: {key: row[key] for key in ("images", "per_class")} for name, row in splits}}


def derive(inputs: Inputs) -> list[BundleFile]:
    """A row for every file except the guide."""
    rows = []
    for name, content in contents(inputs).items():
        if isinstance(content, Path):
            origin, size, sha256 = content.as_posix(), content.stat().st_size, sha256_of(content)
        else:
            origin = inputs.file_metrics(inputs.params.phase) if name == SCORES else "params.yaml"
            size, sha256 = len(content), hashlib.sha256(content).hexdigest()
        rows.append(BundleFile(file=name, origin=origin, bytes=size, sha256=sha256))
    return rows


def write(target: Path, inputs: Inputs, guide: Path) -> None:
    """Fill `target` with the files and the guide."""
    for name, content in contents(inputs).items():
        if isinstance(content, Path):
            shutil.copyfile(content, target / name)
        else:
            write_bytes(target / name, content)
    shutil.copyfile(guide, target / GUIDE)


def files(inputs: Inputs, ledger: Ledger, derived: Derived) -> Table:
    """The files of the bundle with size and sha256."""
    own, rows = inputs.file_own("derived.json"), []
    for index, row in enumerate(derived.bundle):
        what = WHAT.get(row.file, f"the shipped weights of phase {inputs.params.phase}")
        size = cell(ledger.num(own, f"bundle.{index}.bytes", "size"))
        rows.append((cell(row.file, tone="code"), cell(what), size, cell(row.sha256, tone="hash")))
    rows.append(
        (cell(GUIDE, tone="code"), cell("how to reproduce this result; also part of the report"), cell(""), cell(""))
    )
    note = (
        f"The files are in {folder(inputs.study)}/. DVC stores this folder and Git does not: `dvc repro` writes it, "
        "`dvc pull` downloads it from a remote."
    )
    return Table("bundle", "Files of the bundle", ("File", "Content", "Size", "sha256"), tuple(rows), (note,))


def close(inputs: Inputs, ledger: Ledger, derived: Derived) -> Section | None:
    """The end of the report: the bundle."""
    return section("bundle", "Bundle", files(inputs, ledger, derived), fold=True)


def guide(inputs: Inputs, ledger: Ledger, derived: Derived, document: Provenance) -> Page:
    """REPRODUCTION_GUIDE.md, which can be read without report.md. `document` is provenance.json."""
    phase = inputs.params.phase
    sections = [
        section(
            "result",
            "1. Expected result",
            tables.headline(inputs, ledger),
            training_log.apart(inputs, ledger, derived),
        ),
        section(
            "data",
            "2. Data",
            _data(inputs),
            data_tables.class_counts(inputs, ledger),
            data_tables.split_sizes(inputs, ledger),
        ),
        section("environment", "3. Environment", _environment(document)),
        section("steps", "4. Steps", _steps(inputs)),
        section("settings", "5. Settings", run_tables.configuration(inputs, ledger)),
        section(
            "scores",
            "6. Scores",
            *(tables.per_class(inputs, ledger, phase, split) for split in inputs.active.splits),
        ),
        section("files", "7. Files", files(inputs, ledger, derived), _loading(inputs)),
        section("checklist", "8. Verification", checks.table(inputs, ledger, derived)),
        method.method(inputs, ledger, f"9. {tables.METHOD}"),
    ]
    present = tuple(part for part in sections if part is not None)
    title = f"Reproduction guide: {inputs.params.report.title}, phase {phase}"
    return Page(GUIDE.removesuffix(".md"), title, present, markdown_only=True)


def _data(inputs: Inputs) -> Text:
    params = inputs.params
    if params.data.synthetic is not None:
        drawn = params.data.synthetic
        text = (
            f"The built-in generator draws the images (scene {drawn.scene}, seed {drawn.seed}). No download is needed."
        )
        return Text((text,))
    needed = params.report.data_needed or f"the data of params.yaml, data.root: {params.data.root}"
    return Text((f"Data needed: {needed}.",))


def _environment(document: Provenance) -> Bullets:
    packages = ", ".join(f"{name} {version}" for name, version in document.packages.items())
    devices = ", ".join(document.devices) or "not recorded"
    return Bullets(
        (
            (f"Python {document.python}; {document.lock.file}, sha256 {document.lock.sha256}",),
            (packages,),
            (f"device {devices}, {document.threads} CPU threads, {document.numerics} numerics",),
            (f"seed {document.seed}",),
        )
    )


def _steps(inputs: Inputs) -> Table:
    study, phase = inputs.study, inputs.params.phase
    demo = " --demo" if inputs.params.data.synthetic is not None else ""
    steps = (
        ("In a clone of the project, install the locked environment", "make venv"),
        ("Check that this machine is ready", "retrace doctor"),
        (
            "Select the study; then change params.yaml where this run's parameters.json differs",
            f"retrace use {study}{demo}",
        ),
        ("Run all steps, from the data to the report", "dvc repro"),
        ("Follow the training from another terminal", "retrace watch"),
        ("Show the latest epochs", f"cat logs/{study}/{phase}/status.json"),
        ("After an interruption, continue from the last complete epoch", "dvc repro"),
        ("Compare the scores and the checklist", f"reports/{study}/report.md"),
        (
            f"Run the shipped {inputs.active.weights.file} on new images",
            f"retrace predict image.jpg --phase {phase} --out found",
        ),
    )
    rows = tuple((cell(step), cell(command, tone="code")) for step, command in steps)
    return Table("steps_again", "Steps to reproduce the numbers", ("Step", "Command"), rows)


def _loading(inputs: Inputs) -> Text:
    file = inputs.active.weights.file
    if inputs.params.phases[inputs.params.phase].engine == "ultralytics":
        return Text((f'{file} can also be loaded with plain Ultralytics: YOLO("{file}").predict("image.jpg").',))
    return Text((f"{file} is a safetensors file; model.json says which network it belongs to.",))
