"""dvc.yaml names the code that each stage runs, no less (stale results) and no more (trainings rerun for nothing)."""

import sys
from pathlib import Path

import pytest
import yaml

from retrace.files import CODE
from tests.support.imports import file_of, named_in
from tests.support.projects import ROOT, run

STAGES = {}
for name, block in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
    STAGES[name] = block.get("do", block)


def script(stage: str) -> str:
    return stage.removesuffix("_repeat")


def closure(stage: str) -> set[Path]:
    seen, todo = set(), ["stages", f"stages.{script(stage)}"]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += named_in(file_of(name))
    return {file_of(name).relative_to(ROOT) for name in seen}


def shortest(files: set[Path], folder: Path = Path()) -> list[str]:
    """The files as paths for dvc.yaml: a folder stands for its files where all its Python files are among them."""
    found = []
    for path in sorted((ROOT / folder).iterdir()) if folder.parts else [ROOT / name for name in CODE]:
        inside = path.relative_to(ROOT)
        if path.is_file():
            found += [inside.as_posix()] if inside in files else []
            continue
        of_folder = {file.relative_to(ROOT) for file in path.rglob("*.py")}
        if of_folder and of_folder <= files:
            found.append(inside.as_posix())
        elif of_folder & files:
            found += shortest(files, inside)
    return found


def code_deps(stage: str) -> list[str]:
    return [dep for dep in STAGES[stage]["deps"] if dep.split("/")[0] in CODE]


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_deps_are_the_code_that_the_stage_imports(stage):
    needed = shortest(closure(stage))
    listed = [dep for dep in code_deps(stage) if not dep.endswith("/templates")]
    assert listed == needed, f"deps of {stage} in dvc.yaml should be, besides data and lock:\n" + "\n".join(
        f"- {path}" for path in needed
    )


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_deps_cover_every_module_the_stage_loads(stage):
    code = (
        f"import sys, stages.{script(stage)}\n"
        f"print(*sorted(m.__file__ for n, m in list(sys.modules.items()) if n.split('.')[0] in {CODE}), sep='\\n')"
    )
    loaded = run(ROOT, sys.executable, "-c", code, check=True).stdout
    files = [Path(line).relative_to(ROOT) for line in loaded.split()]
    deps = [Path(dep) for dep in code_deps(stage)]
    missing = sorted(str(path) for path in files if not any(dep == path or dep in path.parents for dep in deps))
    assert not missing, f"{stage}: add to deps in dvc.yaml: {missing}"


def test_a_training_does_not_depend_on_what_only_others_run():
    """The rooms are cut so that pictures, downloads, reports and commands make no training stale."""
    files = {path.as_posix() for path in closure("finetune")}
    others = (
        "retrace/evaluation/pictures.py",
        "retrace/models/published.py",
        "retrace/downloads.py",
        "retrace/statistics/bootstrap.py",
    )
    assert all((ROOT / path).is_file() for path in others) and not files & set(others)
    assert not [
        path for path in files if path.startswith(("retrace/report", "retrace/cli", "retrace/sweeps", "scenes"))
    ]


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_training_does_not_depend_on_the_schema_of_other_stages(stage):
    whole = {path.name for path in (ROOT / "retrace/config").glob("*.py")}
    own = {path.name for path in closure(stage) if path.parent.name == "config"}
    assert whole - own == {"ablation.py", "data.py", "load.py", "metrics.py", "schema.py"}
    assert all("retrace/config" in STAGES[other]["deps"] for other in ("collect", "evaluate", "report"))


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_stage_depends_on_the_environment_lock(stage):
    assert "requirements/runtime.txt" in STAGES[stage]["deps"]
