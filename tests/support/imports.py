"""Which modules of this project a file names."""

import ast
from pathlib import Path

from retrace.files import CODE
from tests.support.projects import ROOT


def file_of(module: str) -> Path | None:
    path = ROOT / Path(*module.split("."))
    if (path / "__init__.py").is_file():
        return path / "__init__.py"
    return path.with_suffix(".py") if path.with_suffix(".py").is_file() else None


def named_in(path: Path) -> set[str]:
    """Modules of this project in any import of a file, also inside functions, and those that its tables name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("retrace."):
            found.add(node.value)
    found = {name for name in found if name.split(".")[0] in CODE and file_of(name)}
    return found | {".".join(name.split(".")[:end]) for name in found for end in range(1, name.count(".") + 1)}
