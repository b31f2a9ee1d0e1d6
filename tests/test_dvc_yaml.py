"""dvc.yaml names all the code that each stage runs; otherwise an edit would leave stale results behind."""

import ast
import sys
from pathlib import Path

import pytest
import yaml

from tests.projects import ROOT, run

STAGES = {}
for name, block in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
    STAGES[name] = block.get("do", block)


def file_of(module: str) -> Path | None:
    path = ROOT / Path(*module.split("."))
    if (path / "__init__.py").is_file():
        return path / "__init__.py"
    return path.with_suffix(".py") if path.with_suffix(".py").is_file() else None


def imported_by(path: Path) -> set[str]:
    """Modules of this project named in any import of a file, also those inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    found = {name for name in found if name.split(".")[0] == "stages" and file_of(name)}
    return found | {".".join(name.split(".")[:end]) for name in found for end in range(1, name.count(".") + 1)}


def closure(module: str) -> set[Path]:
    seen, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += imported_by(file_of(name))
    return {file_of(name).relative_to(ROOT) for name in seen}


def covered(path: Path, deps: list[str]) -> bool:
    return any(path == Path(dep) or Path(dep) in path.parents for dep in deps if "$" not in dep)


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_deps_cover_every_module_the_stage_names(stage):
    missing = sorted(str(p) for p in closure(f"stages.{stage}") if not covered(p, STAGES[stage]["deps"]))
    assert not missing, f"{stage}: add to deps in dvc.yaml: {missing}"


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_deps_cover_every_module_the_stage_loads(stage):
    code = (
        f"import sys, stages.{stage}\n"
        "print(*sorted(m.__file__ for n, m in list(sys.modules.items()) if n.split('.')[0] == 'stages'), sep='\\n')"
    )
    loaded = run(ROOT, sys.executable, "-c", code, check=True).stdout
    files = [Path(line).relative_to(ROOT) for line in loaded.split()]
    missing = sorted(str(path) for path in files if not covered(path, STAGES[stage]["deps"]))
    assert not missing, f"{stage}: add to deps in dvc.yaml: {missing}"


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_stage_depends_on_the_environment_lock(stage):
    assert "requirements/runtime.txt" in STAGES[stage]["deps"]


def test_deps_that_no_stage_needs_are_not_listed():
    for stage, block in STAGES.items():
        files = closure(f"stages.{stage}")
        for dep in block["deps"]:
            if dep.startswith("stages/") and "$" not in dep:
                assert any(covered(path, [dep]) for path in files), f"{stage}: {dep} is not imported by it"
