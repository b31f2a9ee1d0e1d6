"""Tables of provenance: commit, environment, devices, and the md5 of every dependency and output."""

from retrace.documents.provenance import Images, Provenance
from retrace.report.blocks import Cell, Table, cell
from retrace.report.inputs import Inputs
from retrace.report.numbers import ABSENT
from retrace.report.run_tables import code


def origin(inputs: Inputs, document: Provenance) -> Table:
    """Commit, environment lock, package versions, device and seed."""
    git, lock = document.git, document.lock
    commit = "not in a Git repository" if git.commit is None else git.commit
    state = ""
    if git.dirty:
        listed = ", ".join(git.changed[:8]) + (" ..." if len(git.changed) > 8 else "")
        state = f" with uncommitted changes: {listed}"
    rows = (
        (cell("Git commit"), Cell((commit + state,), "warn" if git.dirty else "hash")),
        (cell("environment lock"), cell(f"{lock.file}, sha256 {lock.sha256 or 'file not found'}", tone="hash")),
        *_image(document.image),
        (cell("packages"), cell(", ".join(f"{name} {version}" for name, version in document.packages.items()))),
        (cell("Python, system"), cell(f"{document.python}, {document.platform}")),
        (
            cell("device, CPU threads, numerics"),
            cell(f"{', '.join(document.devices) or 'not recorded'}, {document.threads}, {document.numerics}"),
        ),
        *_processes(document.processes),
        (cell("seed"), cell(str(document.seed))),
    )
    return Table("provenance", "Commit and environment", ("Item", "Value"), rows)


def _processes(counts: dict[str, int]) -> list[tuple[Cell, Cell]]:
    same = len(set(counts.values())) == 1
    text = str(next(iter(counts.values()))) if same else ", ".join(f"{name} {count}" for name, count in counts.items())
    return [(cell("training processes"), cell(text))] if counts else []


def _image(recorded: Images) -> list[tuple[Cell, Cell]]:
    image, unpinned = recorded.report, recorded.unpinned_steps
    rows = []
    if image:
        revision = f", built at Git revision {image.git_revision}" if image.git_revision else ""
        rows.append((cell("container image"), cell(f"{image.name}{revision}")))
    if unpinned or (image and image.unpinned):
        steps = ", ".join([*unpinned, *(["report"] if image and image.unpinned else [])])
        text = f"--allow-unpinned was used with an image built from another lock file, in these steps: {steps}"
        rows.append((cell("not the locked environment"), cell(text, tone="warn")))
    return rows


def sums(document: Provenance) -> Table | None:
    """The md5 of every output and dependency of this study in dvc.lock, one row per path."""
    users: dict[tuple[str, str], list[str]] = {}
    for stage, entry in document.stages.items():
        for path, md5 in entry.deps.items():
            users.setdefault((path, md5 or ABSENT), []).append(stage)
    makers = {
        (path, md5 or ABSENT): stage for stage, entry in document.stages.items() for path, md5 in entry.outs.items()
    }
    rows = [
        (code(path), code(md5), cell(makers[(path, md5)]), _stages(users.pop((path, md5), []))) for path, md5 in makers
    ]
    rows += [(code(path), code(md5), cell(ABSENT), _stages(stages)) for (path, md5), stages in sorted(users.items())]
    note = "Read from dvc.lock when this report was made. provenance.json lists the hashes by stage."
    return (
        Table(
            "md5", "Hashes of outputs and dependencies", ("Path", "md5", "Written by", "Read by"), tuple(rows), (note,)
        )
        if rows
        else None
    )


def _stages(names: list[str]) -> Cell:
    plain = dict.fromkeys(name.partition("@")[0].removesuffix("_repeat") for name in names)
    return cell(", ".join(plain) or ABSENT)
