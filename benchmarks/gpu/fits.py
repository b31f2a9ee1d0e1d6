"""What fits which card, from studies/gpu.json: `python -m benchmarks.gpu.fits`.

Writes the table of docs/gpu.md and the comment at the head of every study file.
"""

import re
from pathlib import Path

from tabulate import tabulate

from benchmarks.gpu.settings import NEEDS
from retrace.documents.gpu import CARDS, GpuNeeds, Need
from retrace.files import write_text

PAGE = Path("docs/gpu.md")
BLOCK = re.compile(r"(<!-- gpu:fits begin -->\n).*?(<!-- gpu:fits end -->)", re.S)
COMMENT = re.compile(r"# GPU memory .*\n(?:# \d+ GB: .*\n)*")
BEFORE = re.compile(r"^study: ", re.M)  # the comment stands above this line
EPOCH = 1000  # images, where the study publishes no number
NONE = "–"


def trainings(needs: GpuNeeds) -> list[tuple[str, str]]:
    """(study, training), in the order of the file."""
    return list(dict.fromkeys((row.study, row.training) for row in needs.rows))


def table(needs: GpuNeeds) -> str:
    """Markdown: a row for every training, a column for every card."""
    rows = []
    for study, training in trainings(needs):
        first = needs.of(study, training)[0]
        height, width = first.input_size
        cells = [_cell(needs.fitting(study, training, gib)) for gib in CARDS.values()]
        rows.append([study, training, f"{height} x {width}", f"{first.images or EPOCH:,}", *cells, "computed"])
    headers = ["study", "training", "input, pixels", "images", *(f"{size} GB" for size in CARDS), "how"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _cell(need: Need | None) -> str:
    if need is None:
        return NONE
    minutes = (need.images or EPOCH) / need.images_per_second / 60
    own = "" if need.as_in_study else "**"
    batch = f"{own}{need.batch_size} x {need.accumulate}{own}"
    return f"{batch}: {need.needed_gib:.1f} GiB, {need.images_per_second:.0f}/s, {minutes:.2g} min"


def comment(needs: GpuNeeds, study: str) -> str:
    """The lines at the head of a study file: what to set where a card is too small for it."""
    largest = max(CARDS)
    changed = {size: _changes(needs, study, gib) for size, gib in CARDS.items()}
    first = f"every training fits a card of {largest} GB" if not changed[largest] else "not every training fits"
    lines = [f"# GPU memory of the full-size settings, computed (docs/gpu.md): {first}."]
    for size, changes in changed.items():
        if changes:
            lines.append(f"# {size} GB: {', '.join(changes)}")
        elif size != largest:
            lines.append(f"# {size} GB: the same")
    return "".join(f"{line}\n" for line in lines)


def _changes(needs: GpuNeeds, study: str, gib: float) -> list[str]:
    changes = []
    for name in [training for of, training in trainings(needs) if of == study]:
        need = needs.fitting(study, name, gib)
        if need is None:
            changes.append(f"{name} does not fit")
        elif not need.as_in_study:
            changes.append(f"{name} {_setting(need)}")
    return changes


def _setting(need: Need) -> str:
    if need.accumulate > 1:
        return f"{{batch_size: {need.batch_size}, accumulate: {need.accumulate}}}"
    if need.training == "pretrain":
        return f"{{batch_size: {need.batch_size}}}"
    return f"{{hyperparameters.batch: {need.batch_size}}}"  # YOLO accumulates by itself


def with_table(text: str, needs: GpuNeeds) -> str:
    """The page with its table made anew."""
    return BLOCK.sub(lambda match: f"{match[1]}\n{table(needs)}\n\n{match[2]}", text)


def with_comment(text: str, needs: GpuNeeds, study: str) -> str:
    """The text of a study file with its comment made anew."""
    return BEFORE.sub(lambda match: comment(needs, study) + match[0], COMMENT.sub("", text), count=1)


def main() -> None:
    """Rewrite the page and the study files."""
    needs = GpuNeeds.read(NEEDS)
    write_text(PAGE, with_table(PAGE.read_text(encoding="utf-8"), needs))
    for study in dict.fromkeys(row.study for row in needs.rows):
        path = NEEDS.with_name(f"{study}.yaml")
        write_text(path, with_comment(path.read_text(encoding="utf-8"), needs, study))


if __name__ == "__main__":
    main()
