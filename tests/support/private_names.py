"""Where a file uses names that their library or module does not promise to keep."""

import ast
from collections.abc import Iterator
from pathlib import Path

PROMISED = {"os._exit", "_asdict", "_fields", "_make", "_replace"}  # documented in spite of their underscore
BY_NAME = ("getattr", "hasattr", "setattr", "delattr")
# undocumented modules without an underscore; of DVC only `dvc.api` is documented
INTERNAL = ("dvc", "segmentation_models_pytorch", "timm.layers.grn", "ultralytics")
DOCUMENTED = ("dvc.api", "segmentation_models_pytorch")


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def private_names(path: Path) -> list[str]:
    """`line: source` of each private name that the file takes from elsewhere."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [*_attributes(tree), *_imports(tree), *_by_name(tree)]
    return [f"{node.lineno}: {ast.unparse(node)}" for node in nodes]


def library_internals(path: Path) -> list[str]:
    """As `private_names`, with internal modules, replaced parts of modules, and what is inherited."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [*_internal_modules(tree), *_replaced(tree), *_inherited(tree)]
    return private_names(path) + [f"{node.lineno}: {ast.unparse(node)[:80]}" for node in nodes]


def other_tests(path: Path) -> list[str]:
    """`line: source` of each import of a test; what tests share is in tests/support."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            text = ast.unparse(node)
            if "tests.unit" in text or "tests.pipeline" in text:
                found.append(f"{node.lineno}: {text}")
    return found


def _attributes(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not is_private(node.attr):
            continue
        own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        if not own and not {node.attr, ast.unparse(node)} & PROMISED:
            yield node


def _imports(tree: ast.AST) -> Iterator[ast.stmt]:
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        if any(is_private(part) for name in names for part in name.split(".")):
            yield node


def _by_name(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        texts = [part.value for part in node.args[1:2] if isinstance(part, ast.Constant)]
        if function in BY_NAME and any(isinstance(text, str) and is_private(text) for text in texts):
            yield node


def _internal_modules(tree: ast.AST) -> Iterator[ast.stmt]:
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module)]
        for name in names:
            if name not in DOCUMENTED and f"{name}.".startswith(tuple(f"{one}." for one in INTERNAL)):
                yield node


def _replaced(tree: ast.AST) -> Iterator[ast.stmt]:
    """Assignments to a part of an imported module."""
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target in targets:
            text = ast.unparse(target)
            switch = text.startswith(("torch.backends.", "torch.utils.deterministic."))  # documented as such
            if isinstance(target, ast.Attribute) and text.split(".")[0] in modules and not switch:
                yield node


def _inherited(tree: ast.AST) -> Iterator[ast.AST]:
    """Private parts of `self` that the file does not define, and private methods that it does not call."""
    used, defined = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            (defined if isinstance(node.ctx, ast.Store) else used).add(node.attr)
        elif isinstance(node, ast.Name):
            (defined if isinstance(node.ctx, ast.Store) else used).add(node.id)
        elif isinstance(node, ast.FunctionDef):
            defined.add(node.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in defined:
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                yield node
        elif isinstance(node, ast.ClassDef):
            for part in node.body:
                ours = part.name in used or part.decorator_list if isinstance(part, ast.FunctionDef) else True
                if not ours and is_private(part.name):
                    yield part
