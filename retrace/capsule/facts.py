"""What a capsule says about a study, read from a checked-out commit and a cache."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from retrace.config.load import parse
from retrace.config.schema import Params
from retrace.documents.dataset import Dataset
from retrace.documents.parameters import Parameters
from retrace.documents.provenance import Provenance
from retrace.documents.scores import Scores, read_scores
from retrace.errors import UserError
from retrace.programs import git, how_to_get
from retrace.provenance.md5 import Cache
from retrace.provenance.verify.records import Record, committed, kept_by_git

LICENSE = "AGPL-3.0-only"  # of the code


@dataclass(frozen=True)
class Facts:
    """`root`: the project in the commit; `cache`: where the outs are that Git does not hold."""

    root: Path
    cache: Cache
    commit: str
    date: str  # of the commit, ISO 8601 in UTC
    params: Params
    record: Record
    origin: Provenance
    scores: dict[str, Scores]  # by training
    dataset: Dataset | None  # None where the cache does not hold it

    @property
    def study(self) -> str:
        """The name of the study."""
        return self.params.study

    @property
    def raw(self) -> str:
        """The out of collect."""
        return f"data/{self.study}/raw"

    def inside(self, out: str, name: str) -> Path | None:
        """A file of a folder that is an out, in the cache; None where it is not there."""
        md5 = self.record.paths().get(out)
        files = (self.cache.listing(md5) or {}) if md5 is not None else {}
        path = self.cache.path(files[name]) if name in files else None
        return path if path is not None and path.is_file() else None


def read_facts(root: Path, cache: Cache, study: str) -> Facts:
    """Read the documents of a study.

    Raises:
        UserError: one of them is missing or damaged.
    """
    name = f"reports/{study}/parameters.json"
    params = parse(Parameters.read(root / name, name).content(), name)
    if params.study != study:
        raise UserError(f"{name}: is of the study {params.study}, not of {study}")
    name = f"reports/{study}/provenance.json"
    origin = Provenance.read(root / name, name)
    scores = {}
    for training in params.trainings:
        name = f"metrics/{study}/{training}.json"
        scores[training] = read_scores(root / name, name)
    seconds = int(git("show", "-s", "--format=%ct", "HEAD", folder=root))
    date = datetime.fromtimestamp(seconds, UTC).isoformat()
    commit = git("rev-parse", "HEAD", folder=root).strip()
    facts = Facts(root, cache, commit, date, params, committed(root, params), origin, scores, None)
    path = facts.inside(facts.raw, "dataset.json")
    if path is None:
        return facts
    dataset = Dataset.read(path, f"{facts.raw}/dataset.json")
    return Facts(root, cache, commit, date, params, facts.record, origin, scores, dataset)


def objects(facts: Facts) -> dict[str, Path]:
    """The cache objects that a check needs, by their path in a cache: every file of every out that Git does not hold,
    except images and masks, which no check reads (the manifest names each with its sha256).

    Raises:
        UserError: one of them is not in the cache, or has other bytes than its name says.
    """
    kept = kept_by_git(facts.root, facts.params)
    found: dict[str, Path] = {}
    for out, md5 in facts.record.paths().items():
        if out in kept:
            continue
        files = facts.cache.listing(md5)
        sums = [] if files is None else [md5]
        for name, sum in (files or {}).items():
            if out != facts.raw or not name.startswith(("images/", "masks/")):
                sums.append(sum)
        if not sums:
            raise UserError(f"{out}: {md5} is not in the DVC cache; run {how_to_get(out, 'dvc repro')}")
        for sum in sums:
            path = facts.cache.path(sum)
            if not path.is_file() or facts.cache.damaged(sum):
                again = how_to_get(out, "dvc repro")
                raise UserError(f"{out}: {sum} is not in the DVC cache, or is damaged there; run {again}")
            found[path.relative_to(facts.cache.folder).as_posix()] = path
    return found
