"""docs/gpu.md's tables from the lines of gpu_check: `python -m benchmarks.gpu.table benchmarks/results/gpu/*.jsonl`."""

import json
import sys
from pathlib import Path
from typing import Any

from tabulate import tabulate

Line = dict[str, Any]
RATES = {  # figure of a `rate` line -> (header, decimals)
    "batch": ("batch", 0),
    "loader_images_per_second": ("loader alone, images/s", 1),
    "network_images_per_second": ("network alone, images/s", 1),
    "price_of_determinism": ("price of determinism", 2),
}


def read(path: Path) -> tuple[Line, list[Line]]:
    """(the machine, the checks) of a file of JSON lines."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return lines[0], lines[1:]


def tables(machine: Line, checks: list[Line]) -> str:
    """Markdown: what passed by part, the batch that fits by training and memory, rates."""
    head = f"{machine['device']}, torch {machine['torch']}"
    if "memory_gib" in machine:
        head += f", {machine['memory_gib']} GiB, compute capability {machine['capability']}, CUDA {machine['cuda']}"
    parts = [f"Measured on {head}.", _states(checks)]
    parts += [table for table in (_failures(checks), _memory(checks), _rates(checks)) if table]
    return "\n\n".join(parts)


def _states(checks: list[Line]) -> str:
    rows = []
    for part in dict.fromkeys(line["part"] for line in checks):
        mine = [line["state"] for line in checks if line["part"] == part]
        rows.append([part, *(mine.count(state) for state in ("passed", "failed", "skipped"))])
    return tabulate(rows, ["part", "passed", "failed", "skipped"], tablefmt="github")


def _failures(checks: list[Line]) -> str:
    return "\n".join(f"- {line['part']}, {line['name']}: {line['why']}" for line in checks if line["state"] == "failed")


def _memory(checks: list[Line]) -> str:
    rows: dict[str, dict[str, str]] = {}
    for line in checks:
        if line["part"] == "memory" and line["state"] == "passed":
            name, _, limit = line["name"].rpartition(", ")
            peak = f"{line['batch']} x {line['accumulate']} ({line['peak_gib']:.1f} GiB)"
            rows.setdefault(name, {})[limit] = peak
    limits = list(dict.fromkeys(limit for row in rows.values() for limit in row))
    body = [[name, *(row.get(limit, "–") for limit in limits)] for name, row in rows.items()]
    headers = ["training", *(f"batch x accumulate in {limit}" for limit in limits)]
    return tabulate(body, headers, tablefmt="github", disable_numparse=True) if rows else ""


def _rates(checks: list[Line]) -> str:
    body = []
    for line in checks:
        if line["part"] == "rate" and line["state"] == "passed":
            figures = ["–" if line[key] is None else f"{line[key]:.{digits}f}" for key, (_, digits) in RATES.items()]
            body.append([line["name"], *figures])
    headers = ["training", *(header for header, _ in RATES.values())]
    return tabulate(body, headers, tablefmt="github", disable_numparse=True) if body else ""


def main() -> None:
    """Print the tables of every file."""
    for path in sys.argv[1:]:
        print(tables(*read(Path(path))), end="\n\n")


if __name__ == "__main__":
    main()
