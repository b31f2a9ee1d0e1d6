"""A comparison as LaTeX tables, to be read into a paper with `\\input`."""

from retrace.report.blocks import Table
from retrace.report.comparison.render import caption, table, title
from retrace.report.comparison.rows import Comparison

SPECIAL = {character: f"\\{character}" for character in "&%$#_{}"}
SPECIAL |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
SPECIAL |= {"<": r"\textless{}", ">": r"\textgreater{}", "–": "--", "→": r"$\rightarrow$", "−": "$-$"}
NUMBERS = ("Images", "Parameters", "Objects", "Images with it")  # columns aligned to the right


def escape(text: str) -> str:
    """Text whose characters LaTeX prints as they are, on one line."""
    return "".join(SPECIAL.get(character, character) for character in " ".join(text.split()))


def to_latex(comparison: Comparison) -> str:
    """A `table` environment for each study, with the rules of the package booktabs; notes are comments after it."""
    parts = ["% needs \\usepackage{booktabs}"]
    for group in comparison.groups:
        parts.append(latex_table(table(group), f"{title(group)}. {caption(group)}"))
    parts += [f"% {' '.join(line.split())}" for line in comparison.notes]
    return "\n".join(parts) + "\n"


def latex_table(drawn: Table, said: str) -> str:
    """One `table` environment. said: its caption."""
    aligned = "".join("r" if name in NUMBERS else "l" for name in drawn.columns)
    lines = ["\\begin{table}", "\\centering", f"\\caption{{{escape(said)}}}"]
    lines += [f"\\begin{{tabular}}{{{aligned}}}", "\\toprule", _row(drawn.columns), "\\midrule"]
    lines += [_row([one.text for one in cells]) for cells in drawn.rows]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"])


def _row(texts: list[str] | tuple[str, ...]) -> str:
    # a cell that begins with a bracket would be read as the argument of the line break before it
    cells = [f"{{}}{escape(text)}" if text.startswith("[") else escape(text) for text in texts]
    return " & ".join(cells) + r" \\"
