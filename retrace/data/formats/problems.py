"""Everything wrong with the data, found in one pass, kept as a table and summed up in one message."""

import csv
import io
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from retrace.errors import UserError
from retrace.files import write_text

COLUMNS = ("kind", "path", "detail", "action")
LEFT_OUT, KEPT, STOPS = "left out", "kept", "stops"
SHOWN = 5  # examples of each kind in the message; the table holds all of them


@dataclass(frozen=True, order=True)
class Problem:
    """One row of the table."""

    kind: str  # short, lower case, underscores: missing_mask, size_mismatch, unknown_value, ...
    path: str  # below the root
    detail: str  # what is wrong and what to do
    action: str = LEFT_OUT


@dataclass
class Problems:
    """The table while it is being filled: `add` what cannot be used, `note` what is worth saying, `stop` at worst."""

    rows: list[Problem] = field(default_factory=list)

    def add(self, kind: str, path: str, detail: str) -> None:
        """A problem: stops the stage (`on_error: fail`) or leaves the file out (`skip`)."""
        self.rows.append(Problem(kind, path, detail))

    def note(self, kind: str, path: str, detail: str) -> None:
        """Not a problem but said aloud: the file is used (or was never meant to be)."""
        self.rows.append(Problem(kind, path, detail, KEPT))

    def stop(self, kind: str, path: str, detail: str) -> None:
        """A problem that leaving one file out does not solve: stops the stage whatever `on_error` says."""
        self.rows.append(Problem(kind, path, detail, STOPS))

    @property
    def serious(self) -> list[Problem]:
        """The rows that stop the stage or cost a file, sorted."""
        return sorted(row for row in self.rows if row.action != KEPT)

    def counts(self) -> dict[str, int]:
        """How many rows of each kind, sorted by kind."""
        return dict(sorted(Counter(row.kind for row in self.rows).items()))

    def write(self, path: Path) -> None:
        """All rows as CSV (kind, path, detail, action), sorted; the header alone when there is nothing to say."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((row.kind, row.path, row.detail, row.action) for row in sorted(self.rows))
        write_text(path, stream.getvalue())

    def summary(self) -> str:
        """Counts by kind with the first few of each, one line per row."""
        lines = []
        by_kind = Counter(row.kind for row in self.serious)
        for kind, count in sorted(by_kind.items()):
            lines.append(f"  {kind}: {count}")
            shown = [row for row in self.serious if row.kind == kind][:SHOWN]
            lines += [f"    {row.path}: {row.detail}" for row in shown]
            if count > len(shown):
                lines.append(f"    ... and {count - len(shown)} more")
        return "\n".join(lines)

    def settle(self, on_error: str, table: Path) -> None:
        """Write the table; if it stops the stage, raise the one `UserError` that sums everything up."""
        self.write(table)
        stops = any(row.action == STOPS for row in self.rows)
        if stops or (self.serious and on_error == "fail"):
            way_out = (
                "repair the data" if stops else "repair the data, or set data.on_error: skip to leave these files out"
            )
            raise UserError(
                f"data: {len(self.serious)} problem{'s' * (len(self.serious) > 1)} found, so no data set was written\n"
                f"{self.summary()}\n"
                f"  all of them: {table}; {way_out}"
            )
