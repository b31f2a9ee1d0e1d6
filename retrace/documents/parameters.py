"""reports/<study>/parameters.json: the parameters of a report, with defaults."""

from pydantic import JsonValue

from retrace.documents.base import Document, Part


class ReportParameters(Part):
    """The block `report`, as far as it is read without the schema."""

    title: str


class Parameters(Document):
    """The parameters of another version are read too, so only what is needed is checked."""

    phase: str
    phases: dict[str, dict[str, JsonValue]]
    report: ReportParameters
