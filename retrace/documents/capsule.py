"""capsule.json: what a capsule (`retrace pack`) is about."""

from typing import ClassVar

from retrace.documents.base import Document

PACK = "`retrace pack`"


class CapsuleInfo(Document):
    """Study and commit of a capsule, and the code that packed it."""

    again: ClassVar[str] = PACK

    study: str
    commit: str  # 40 hex digits
    folder: str  # of the project in its repository; empty: the repository's own
    retrace: str  # version
    code: str  # sha256 of the code in retrace/capsule/
