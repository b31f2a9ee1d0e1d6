"""`retrace site`: the reports of all studies as one static site."""

from pathlib import Path


def site(out: Path) -> list[str]:
    """Write the site to `out`; returns what to print."""
    from retrace.report.site.build import INDEX, build

    pages = build(out)
    return [
        f"{out}: {len(pages)} pages; open {out / INDEX} in a browser, or copy the folder to any static host",
        *pages,
    ]
