"""The folder of a study's data, with a README that says what belongs there; written by `retrace use`."""

from pathlib import Path

from retrace.config.schema import Params
from retrace.data.formats.archive import SUFFIXES
from retrace.data.formats.missing import README, missing, named_paths
from retrace.files import write_text

MARK = "<!-- written by `retrace use`; `collect` does not read it -->"
CHECK = """**Check it.** This command reads every file and says in one message what is missing or damaged:

```
dvc repro collect
```"""


def prepare(params: Params, described: Path) -> list[str]:
    """Make the folder `data.root` with its README where there is no data yet; returns lines for the user.

    Args:
        params: of the study that was chosen.
        described: the study's `<study>.data.md`; without one, the README lists what the study file names.
    """
    root = Path(params.data.root)
    if params.data.synthetic is not None or params.data.url is not None or root.name.lower().endswith(SUFFIXES):
        return []
    lacking = missing(params.data, root)
    if _is_ours(root):
        try:
            write_text(root / README, _text(params, described))
        except OSError as error:
            return [f"{root}: cannot be written ({error.strerror}); missing: {', '.join(lacking)}"]
    if not lacking:
        return []
    where = f"{root / README} says where it comes from" if (root / README).is_file() else params.report.data_needed
    return [f"still missing in {root}: {', '.join(lacking)}; {where or 'put it there'}"]


def _is_ours(root: Path) -> bool:
    """Whether a folder is absent, empty, or has the README that was written before; no other is touched."""
    if not root.exists():
        return not root.is_symlink()
    readme = root / README
    if readme.is_file():
        return MARK in readme.read_text(encoding="utf-8", errors="replace")
    return root.is_dir() and not any(root.iterdir())


def _text(params: Params, described: Path) -> str:
    own = described.read_text(encoding="utf-8").rstrip() if described.is_file() else _listed(params)
    return f"{own}\n\n{CHECK}\n\n{MARK}\n"


def _listed(params: Params) -> str:
    """What the study file alone says of its data."""
    needed = params.report.data_needed or "`report.data_needed` of the study file does not say"
    lines = [
        f"# Data of the study {params.study}",
        "",
        f"**Where to get it.** {needed}",
        "",
        "**What has to be here.**",
        "",
    ]
    lines += ["```", f"{params.data.root}/", *(f"    {path}" for path in named_paths(params.data)), "```"]
    if params.report.published_images:
        counts = ", ".join(f"{count:,} {split}" for split, count in params.report.published_images.items())
        lines += ["", f"**Size.** Published images: {counts}."]
    return "\n".join(lines)
