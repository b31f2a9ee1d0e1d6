"""reports/<study>/parameters.json: the parameters of a report, with defaults."""

from pydantic import JsonValue

from retrace.config.trainings import repeat_name
from retrace.documents.base import Document, Part


class ReportParameters(Part):
    """The block `report`, as far as it is read without the schema."""

    title: str


class Repeated(Part):
    """The block `repeats`: phases that were trained again with other seeds."""

    phases: list[str] = []
    seeds: list[int] = []


class Parameters(Document):
    """The parameters of another version are read too, so only what is needed is checked."""

    phase: str
    phases: dict[str, dict[str, JsonValue]]
    report: ReportParameters
    repeats: Repeated = Repeated()

    @property
    def trainings(self) -> dict[str, str]:
        """The phase that each training trains, by the training's name."""
        found = {}
        for phase in self.phases:
            found[phase] = phase
            for seed in self.repeats.seeds if phase in self.repeats.phases else ():
                found[repeat_name(phase, seed)] = phase
        return found
