"""Make the statement about the results of a commit that `retrace sign` signs, and compare one with a commit."""

from collections.abc import Iterator
from pathlib import Path

import retrace
from retrace.documents.scores import read_scores
from retrace.documents.statement import RESULT, SIGN, STATEMENT, Commit, Envelope, Result, Statement, Subject
from retrace.environment import LOCK
from retrace.errors import UserError
from retrace.files import dump_json, sha256_of
from retrace.programs import git
from retrace.provenance.dsse import opened, seal
from retrace.provenance.keys import Ed25519PrivateKey, Ed25519PublicKey, key_id
from retrace.provenance.verify.job import Job
from retrace.provenance.verify.records import Record

SIGNATURES = Path("signatures")  # no out of a stage lies there, so `dvc repro` leaves it alone
LARGEST = 64 * 2**20  # bytes of a signature file


def place(study: str) -> Path:
    """Where the signature of a study lies in the project."""
    return SIGNATURES / f"{study}.dsse.json"


def signed(job: Job, key: Ed25519PrivateKey) -> Envelope:
    """The signed statement about a job's study; it has no date, so it is the same whenever it is made."""
    return seal(dump_json(statement(job).content()).encode(), key)


def statement(job: Job) -> Statement:
    """Everything that the commit holds or records of a study's results.

    Raises:
        UserError: a file that is named there is missing or damaged.
    """
    study = job.params.study
    parameters = f"reports/{study}/parameters.json"
    named = {name: Subject(name=name, digest=digest) for name, digest in subjects(job).items()}
    return Statement(
        type=STATEMENT,
        subject=[named[name] for name in sorted(named)],
        predicateType=RESULT,
        predicate=Result(
            study=study,
            commit=Commit(digest={"gitCommit": job.commit}),
            parameters=named[parameters],
            environment=_environment(job.root),
            record=job.record.file,
            retrace=retrace.__version__,
        ),
    )


def subjects(job: Job) -> dict[str, dict[str, str]]:
    """`{path: {algorithm: digest}}`: outs from collect to evaluate and the bundle with DVC's md5; with sha256, every
    file of them that Git holds, the manifest and the weights, and each file of the report and of an ablation's.

    plots/ and metrics.json are left out: they are of the study that was run last, and a report holds their numbers.
    """
    study = job.params.study
    found: dict[str, dict[str, str]] = {}
    for path, md5 in _outs(job.record).items():
        folder = md5.endswith(".dir")
        found[path] = {"dvcDirMd5" if folder else "md5": md5.removesuffix(".dir")}
        if not folder and (job.root / path).is_file():
            found[path]["sha256"] = sha256_of(job.root / path)
    if job.origin is not None and job.origin.data is not None and job.origin.data.sha256 is not None:
        found[job.origin.data.manifest] = {"sha256": job.origin.data.sha256}
    for training in job.params.trainings:
        name = f"metrics/{study}/{training}.json"
        weights = read_scores(job.before / name, name).weights
        found[f"models/{study}/{training}/{weights.file}"] = {"sha256": weights.sha256}
    for report in (f"reports/{study}", f"reports/{study}-ablation"):
        for file in sorted((job.before / report).rglob("*")):
            if file.is_file():
                found[file.relative_to(job.before).as_posix()] = {"sha256": sha256_of(file)}
    return found


def _outs(record: Record) -> dict[str, str]:
    """Outs that both dvc.lock and provenance.json record, and the bundle, which dvc.lock alone does."""
    found: dict[str, str] = {}
    for stage, outs in record.outs.items():
        found |= {path: md5 for path, md5 in outs.items() if stage != "report" or path.startswith("bundles/")}
    return found


def _environment(root: Path) -> Subject:
    if not (root / LOCK).is_file():
        raise UserError(f"{LOCK}: the commit does not hold it, so the environment of the results is not known")
    return Subject(name=LOCK.as_posix(), digest={"sha256": sha256_of(root / LOCK)})


def check(job: Job, key: Ed25519PublicKey) -> str:
    """Check the signature of the job's study, in the commit or else in the project's folder.

    Returns a sentence that says what was signed.

    Raises:
        UserError: no signature, one of another key, or a statement that is not about these results; the message names
            each file that differs.
    """
    study = job.params.study
    file = place(study)
    folder = job.root if (job.root / file).is_file() else job.project
    name = file.as_posix()
    if not (folder / file).is_file():
        raise UserError(
            f"{name}: no such file, so the results of {study} are not signed; sign them (`retrace sign --key <private "
            "key>`), or get the file from who did"
        )
    if (folder / file).stat().st_size > LARGEST:
        raise UserError(f"{name}: too large for a signature; restore it (`git checkout -- {name}`)")
    content = opened(Envelope.read(folder / file, name), key, name)
    found = Statement.parse(content, f"{name}: statement")
    _require_kind(found, study, name)
    wrong = [f"{name}: {line}" for line in _differences(found, job)]
    if wrong:
        raise UserError("\n       ".join([*_first(wrong), _remedy(found)]))
    signed_at = found.predicate.commit.digest.get("gitCommit", "")
    where = "this commit" if signed_at == job.commit else f"commit {signed_at[:12]}, whose results this commit holds"
    return f"signed with the key {key_id(key)[:12]}: {len(found.subject)} files and folders of {where}"


def _require_kind(found: Statement, study: str, name: str) -> None:
    for key, value, wanted in (
        ("_type", found.type, STATEMENT),
        ("predicateType", found.predicateType, RESULT),
    ):
        if value != wanted:
            raise UserError(f"{name}: {key} is {value!r}; allowed: {wanted}; sign again: {SIGN}")
    if found.predicate.study != study:
        raise UserError(
            f"{name}: its statement is about the study {found.predicate.study!r} and does not cover {study}; "
            f"sign {study} itself: `retrace sign --key <private key> --study {study}`"
        )


def _differences(found: Statement, job: Job) -> Iterator[str]:
    """What the statement says and the commit does not hold, and the other way round, one line each."""
    mine, names = statement(job), [row.name for row in found.subject]
    for twice in sorted({name for name in names if names.count(name) > 1}):
        yield f"{twice}: is a subject twice"
    stated, held = ({row.name: row.digest for row in rows.subject} for rows in (found, mine))
    for path in sorted({*stated, *held}):
        if path not in stated:
            yield f"{path}: the commit has it, the signature does not cover it"
        elif path not in held:
            if not path.startswith("bundles/"):  # recorded in dvc.lock alone, which holds one study at a time
                yield f"{path}: is signed, but the commit does not hold it"
        elif stated[path] != held[path]:
            yield f"{path}: signed with {_shown(stated[path])}, the commit has {_shown(held[path])}"
    for one, other in (
        (found.predicate.parameters, mine.predicate.parameters),
        (found.predicate.environment, mine.predicate.environment),
    ):
        if one.name != other.name or one.digest != other.digest:
            yield f"{other.name}: signed with {_shown(one.digest)}, the commit has {_shown(other.digest)}"
    yield from _elsewhere(found.predicate.commit.digest.get("gitCommit", ""), job)


def _elsewhere(signed_at: str, job: Job) -> Iterator[str]:
    """A line where the signed commit is not in the history of the verified one."""
    if signed_at == job.commit:
        return
    shallow = git("rev-parse", "--is-shallow-repository", folder=job.root, check=False).strip() == "true"
    base = git("merge-base", "--end-of-options", signed_at, job.commit, folder=job.root, check=False).strip()
    if base != signed_at and not shallow:
        yield f"commit {signed_at[:12]} was signed, which is not in the history of {job.commit[:12]}"


def _shown(digest: dict[str, str]) -> str:
    return ", ".join(f"{kind} {value[:12]}" for kind, value in sorted(digest.items()))


def _first(lines: list[str]) -> list[str]:
    return lines if len(lines) <= 8 else [*lines[:8], f"and {len(lines) - 8} more"]


def _remedy(found: Statement) -> str:
    commit = found.predicate.commit.digest.get("gitCommit", "")[:12]
    return f"the signed results are those of commit {commit}: verify that one (--rev {commit}), or sign again"
