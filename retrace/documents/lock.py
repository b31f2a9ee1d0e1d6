"""dvc.lock, as DVC writes it: what each stage of the active study read and wrote."""

from pydantic import JsonValue

from retrace.documents.base import Part, checked

AGAIN = "`dvc repro`"


class LockedFile(Part):
    """A dependency or out; `md5` of a folder's listing ends in `.dir`."""

    path: str
    md5: str


class LockedStage(Part):
    """A stage; its parameters by file and dotted name."""

    params: dict[str, dict[str, JsonValue]] | None = None
    deps: list[LockedFile] | None = None
    outs: list[LockedFile] | None = None

    @property
    def dep_sums(self) -> dict[str, str]:
        """md5 of the dependencies, by path."""
        return {row.path: row.md5 for row in self.deps or ()}

    @property
    def out_sums(self) -> dict[str, str]:
        """md5 of the outs, by path."""
        return {row.path: row.md5 for row in self.outs or ()}


def locked_stage(entry: object, name: str = "dvc.lock", again: str = AGAIN) -> LockedStage:
    """An entry of `stages`; empty where it is None. Raises `UserError` for a damaged one."""
    stage: LockedStage = checked(LockedStage, entry or {}, name, again)
    return stage
