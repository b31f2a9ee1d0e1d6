"""reports/<study>/files.json: the sha256 of every other file of a report."""

from retrace.documents.base import Document


class ReportFiles(Document):
    """What `retrace verify` holds the files of a report against."""

    files: dict[str, str]  # lower-case hex sha256 by path in the folder
