"""The reproducibility checklist of NeurIPS and the items of ACM's badges, each with its evidence in the commit.

An item that no file of the commit answers is "not shown": nothing is assumed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from retrace.capsule.facts import Facts
from retrace.documents.derived import Derived
from retrace.environment import LOCK
from retrace.provenance.verify.signed import place

NOT_SHOWN = "not shown"
NEURIPS = "NeurIPS reproducibility checklist"
ACM = "ACM artifact review and badging 1.1"


@dataclass(frozen=True)
class Item:
    """evidence: a file of the commit or a key in one; `NOT_SHOWN` where there is none. why: what it shows."""

    source: str
    question: str
    evidence: str
    why: str


def items(facts: Facts) -> list[Item]:
    """Every item, in the order of the two lists.

    Raises:
        UserError: derived.json is missing or damaged.
    """
    return [*_neurips(facts), *_acm(facts)]


def _neurips(facts: Facts) -> Iterator[Item]:
    params, report = facts.params, f"reports/{facts.study}"
    derived = Derived.read(facts.root / report / "derived.json", f"{report}/derived.json")
    file = f"{report}/parameters.json"

    def item(question: str, evidence: str | None, why: str) -> Item:
        return Item(NEURIPS, question, evidence or NOT_SHOWN, why)

    yield item(
        "Claims: do the main claims reflect the results?",
        f"{report}/report.md" if params.report.claims else None,
        f"{len(params.report.claims)} claims, each judged by the report"
        if params.report.claims
        else "no claims stated",
    )
    yield item("Limitations: are they discussed?", None, "judge the text of the publication")
    yield item("Theory: assumptions and proofs?", None, "a study of trainings has none")
    yield item(
        "Reproducibility: is all information disclosed that is needed to reproduce the main results?",
        _if(facts, f"{report}/REPRODUCTION_GUIDE.md"),
        "commands, parameters and environment",
    )
    yield item("Open access to data and code?", _if(facts, "LICENSE"), f"code; data: {_data(facts)}")
    yield item(
        "Experimental setting: splits, hyperparameters, optimizer?", file, "all parameters, with defaults filled in"
    )
    scores = facts.scores[params.phase]
    split = scores.headline_split
    estimate = scores.metric(params.report.headline, split)
    metrics = f"metrics/{facts.study}/{params.phase}.json"
    shown = f"{metrics}:splits.{split}.{params.report.headline}" if estimate.low is not None else None
    yield item("Statistical significance: error bars?", shown, f"95 % interval over {estimate.n} independent units")
    seeds = f"{report}/derived.json:seeds" if derived.seeds is not None else None
    yield item("Several seeds?", seeds, "scores over seeds" if seeds else "each phase was trained once")
    names = facts.origin.hardware.names or ([facts.origin.cpu] if facts.origin.cpu else [])
    hardware = (
        f"{report}/provenance.json:{'hardware.names' if facts.origin.hardware.names else 'cpu'}" if names else None
    )
    yield item("Compute: type of workers?", hardware, ", ".join(names) or "no device recorded")
    seconds = facts.origin.run.seconds
    time = f"{report}/provenance.json:run.seconds" if seconds is not None else None
    yield item(
        "Compute: time of execution?", time, f"{seconds} s in all stages that ran" if time else "no times recorded"
    )
    for question in ("Code of ethics?", "Broader impacts?", "Safeguards?", "Crowdsourcing and human subjects?"):
        yield item(question, None, "judge the text of the publication")
    yield item("Licenses of existing assets?", None, "params.yaml has no key for the license of data")
    yield item(
        "New assets: documented?", _if(facts, f"{report}/report.md"), "the report; `retrace pack` adds a model card"
    )


def _acm(facts: Facts) -> Iterator[Item]:
    report = f"reports/{facts.study}"

    def item(question: str, evidence: str | None, why: str) -> Item:
        return Item(ACM, question, evidence or NOT_SHOWN, why)

    yield item("Artifacts evaluated, functional: documented?", _if(facts, "README.md"), "README and docs/")
    yield item(
        "... consistent (relevant to the results)?", f"{report}/report.json", "each number names its file and key"
    )
    yield item("... complete?", facts.record.file, f"{len(facts.record.outs)} stages with the md5 of every out")
    yield item("... exercisable?", _if(facts, "dvc.yaml"), "the pipeline, with the environment lock")
    yield item("Artifacts evaluated, reusable: environment?", _if(facts, LOCK.as_posix()), "versions and hashes")
    yield item("Artifacts available: in an archive with an identifier?", None, "no DOI is recorded")
    yield item(
        "Results validated, reproduced: by another team?", None, "`retrace verify` leaves no record in the commit"
    )
    signature = place(facts.study).as_posix()
    yield item("Results signed by those who made them?", _if(facts, signature), "check it with `retrace verify --key`")


def _data(facts: Facts) -> str:
    if not facts.params.report.real_data:
        return "generated by this project"
    if facts.params.data.url is not None:
        return f"{facts.params.data.url}, sha256 in params.yaml"
    return f"{NOT_SHOWN} (no data.url)"


def _if(facts: Facts, name: str) -> str | None:
    return name if (facts.root / name).is_file() else None


def markdown(facts: Facts) -> str:
    """The lists as Markdown, with a count of what is shown."""
    found = items(facts)
    lines = [f"# Checklist: {facts.study}", "", f"Commit {facts.commit}.", ""]
    for source in (NEURIPS, ACM):
        rows = [row for row in found if row.source == source]
        shown = sum(row.evidence != NOT_SHOWN for row in rows)
        lines += [f"## {source}", "", f"{shown} of {len(rows)} items have evidence in this commit.", ""]
        lines += ["| item | evidence | what it says |", "| --- | --- | --- |"]
        lines += [f"| {row.question} | {_link(row.evidence)} | {row.why} |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def _link(evidence: str) -> str:
    file, _, key = evidence.partition(":")
    if evidence == NOT_SHOWN:
        return NOT_SHOWN
    return f"[{file}]({file})" + (f", `{key}`" if key else "")
