"""The findings of `retrace doctor`, one per check."""

import textwrap
from dataclasses import dataclass

OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    check: str
    level: str
    found: str
    remedy: str = ""

    def lines(self, width: int) -> str:
        """The finding and, unless it is ok, its remedy, wrapped at `width` characters under their own column."""
        head = f"{self.level:<8} {self.check:<14} "
        parts = [head + self.found]
        if self.remedy and self.level != OK:
            parts.append(f"{'':<{len(head)}}-> {self.remedy}")
        wrap = textwrap.TextWrapper(
            width, subsequent_indent=" " * len(head), break_long_words=False, break_on_hyphens=False
        )
        return "\n".join(wrap.fill(part) for part in parts)
