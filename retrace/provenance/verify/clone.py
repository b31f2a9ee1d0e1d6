"""Clone a commit into a folder of its own with an empty cache, as on a new machine."""

import shutil
from pathlib import Path

from retrace.config.load import load, parse
from retrace.config.schema import Params
from retrace.documents.parameters import Parameters
from retrace.errors import UserError
from retrace.files import dump_json, write_text
from retrace.programs import git
from retrace.provenance.verify.material import link


def resolve(project: Path, rev: str) -> str:
    """The full hash of a commit; an unknown name, or a folder outside of Git, is a `UserError`."""
    if not git("rev-parse", "--show-toplevel", folder=project, check=False):
        raise UserError(
            f"{project}: not in a Git repository, so there is no commit to verify; run this in a clone of the project, "
            "or `git init` and commit the results"
        )
    if rev == "HEAD" and not git("rev-parse", "--verify", "--quiet", "HEAD", folder=project, check=False):
        raise UserError(f"{project}: no commit yet; commit the results first, then verify that commit")
    try:
        return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}", folder=project).strip()
    except UserError:
        raise UserError(f"{rev!r}: no such commit here; allowed: a hash, a branch, a tag or HEAD~1") from None


def clone(project: Path, commit: str, target: Path) -> Path:
    """Clone the commit into `target`; returns the project's folder in it (the repository may be larger)."""
    top, prefix = (git("rev-parse", word, folder=project).strip() for word in ("--show-toplevel", "--show-prefix"))
    git("clone", "--quiet", "--shared", "--no-checkout", top, str(target), folder=project)
    git("checkout", "--quiet", "--detach", commit, folder=target)
    root = target / prefix
    if not (root / "dvc.yaml").is_file():
        raise UserError(f"commit {commit[:12]} has no dvc.yaml; give a commit of this project")
    return root


def use_empty_cache(root: Path, cache: Path) -> None:
    """Point the clone's DVC at a cache of its own, whatever the user or the machine configured."""
    write_text(root / ".dvc" / "config.local", f"[cache]\n    dir = {cache}\n    type = copy\n")


def parameters(root: Path, study: str | None, device: str) -> Params:
    """The committed parameters of a study; the clone's params.yaml is rewritten where it holds another one.

    A report keeps its parameters complete, so the study needs no params.yaml of its own; it then runs on `device`.

    Raises:
        UserError: the commit holds no report of this study.
    """
    active = load(root / "params.yaml")
    if study is None or study == active.study:
        return active
    file = root / "reports" / study / "parameters.json"
    if not file.is_file():
        known = sorted({active.study, *(path.parent.name for path in root.glob("reports/*/parameters.json"))})
        raise UserError(f"{study!r}: this commit holds no report of it; allowed: {', '.join(known)}")
    kept = Parameters.read(file, f"reports/{study}/parameters.json").content()
    values = kept | {"machine": {"device": device}}
    write_text(root / "params.yaml", dump_json(values))  # JSON is YAML 1.2
    return parse(values, f"reports/{study}/parameters.json")


def bring_inputs(project: Path, root: Path, params: Params, data_from_cache: bool) -> None:
    """Hard links (or copies) of the inputs that Git does not carry: the raw data and local starting weights.

    Raises:
        UserError: one of them is missing.
    """
    wanted = [] if data_from_cache else [params.data.root]
    wanted += [block.path for block in (params.pretrain.weights or {}).values() if block.path]
    for name in wanted:
        if Path(name).is_absolute() or (root / name).exists():
            continue
        if (project / name).exists():
            _link(project / name, root / name)
        elif name != params.data.root or params.data.url is None:
            hint = "" if name != params.data.root else ", or use --data-from-cache to start after collect"
            raise UserError(f"{name}: not here, and not in Git; put the files there{hint}")


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=link)
    else:
        link(source, target)
