"""`retrace checklist`: the items of NeurIPS and ACM, with the evidence that the files of this project hold."""

from pathlib import Path

from retrace.capsule.checklist import markdown
from retrace.capsule.facts import read_facts
from retrace.config.load import load
from retrace.provenance.md5 import cache_of


def checklist(study: str | None) -> str:
    """The lists as Markdown, from the working folder.

    Raises:
        UserError: the study has no report here.
    """
    project = Path()
    return markdown(read_facts(project, cache_of(project), study or load().study))
