"""signatures/<study>.dsse.json: a signed statement about the results of a study.

The statement is an in-toto Statement v1 (https://github.com/in-toto/attestation), the envelope
around it is DSSE 1.0 (https://github.com/secure-systems-lab/dsse).
"""

from typing import ClassVar

from retrace.documents.base import Document, Part, named

STATEMENT = "https://in-toto.io/Statement/v1"
RESULT = "urn:x-retrace:study-result:v1"
SIGN = "`retrace sign`"


class Signature(Part):
    """One signature of the payload."""

    keyid: str = ""  # which key made it, a hint: sha256 of the public key (DER)
    sig: str  # base64


class Envelope(Document):
    """The statement and who signed it."""

    again: ClassVar[str] = SIGN

    payloadType: str  # application/vnd.in-toto+json
    payload: str  # the statement, base64
    signatures: list[Signature]


class Subject(Part):
    """A file or folder that the statement is about."""

    name: str  # its path in the project
    digest: dict[
        str, str
    ]  # lower-case hex by algorithm: md5, sha256, dvcDirMd5 (of DVC's listing of a folder)


class Commit(Part):
    """The commit whose results were signed."""

    digest: dict[str, str]  # gitCommit


class Result(Part):
    """What is stated: the subjects are the results of this study, made with these inputs."""

    study: str
    commit: Commit
    parameters: Subject
    environment: Subject  # the environment lock
    record: str  # where the commit records the outs: dvc.lock or provenance.json
    retrace: str  # version of this program


class Statement(Document):
    """An in-toto statement; the payload of the envelope."""

    again: ClassVar[str] = SIGN

    type: str = named("_type")
    subject: list[Subject]
    predicateType: str
    predicate: Result
