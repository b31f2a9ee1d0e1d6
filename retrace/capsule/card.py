"""README.md of a capsule: a model card in Hugging Face's format (YAML before Markdown), and how to check it all."""

from collections.abc import Iterator

import yaml

from retrace.capsule.facts import Facts
from retrace.config.metrics import METRICS, SPLIT
from retrace.documents.scores import Scores
from retrace.statistics.estimate import Estimate

PIPELINES = {"segmentation": "image-segmentation", "detection": "object-detection"}
ENGINES = {"fabric": "pytorch", "ultralytics": "ultralytics"}


def card(facts: Facts) -> str:
    """The text; every number is of a metrics file."""
    return "\n".join(["---", yaml.safe_dump(_head(facts), sort_keys=False).strip(), "---", "", *_body(facts), ""])


def _head(facts: Facts) -> dict[str, object]:
    active = facts.scores[facts.params.phase]
    kind = PIPELINES[facts.params.task]
    return {
        "library_name": ENGINES[active.engine],
        "pipeline_tag": kind,
        "tags": ["retrace", facts.params.task, facts.study],
        "model-index": [{"name": f"{facts.study}-{facts.params.phase}", "results": list(_results(facts, kind))}],
    }


def _results(facts: Facts, kind: str) -> Iterator[dict[str, object]]:
    scores = facts.scores[facts.params.phase]
    headline = facts.params.report.headline
    for split in scores.splits:
        value = scores.metric(headline, split).value
        if value is not None:
            data = {"name": facts.params.report.title, "type": facts.study, "split": split}
            metric = {"type": headline, "value": value, "name": headline}
            yield {"task": {"type": kind}, "dataset": data, "metrics": [metric]}


def _body(facts: Facts) -> Iterator[str]:
    params, active = facts.params, facts.scores[facts.params.phase]
    yield f"# {params.report.title}: {params.phase}"
    yield ""
    yield (
        f"The model of the phase `{params.phase}` in the study `{facts.study}`, and all that it takes to check its "
        f"results: commit {facts.commit}. Every score was measured on the saved weights after loading them from disk; "
        "brackets are 95 % intervals over independent units."
    )
    if not params.report.real_data:
        yield ""
        yield "**The data are generated demo data, so the scores say nothing about real images.**"
    yield from ("", "## Scores", "", "| phase | split | metric | score | n |", "| --- | --- | --- | --- | --- |")
    for name, scores in facts.scores.items():
        yield from _rows(name, scores)
    yield from ("", "## Training", "")
    training = active.training
    yield f"- engine: {active.engine}; classes: {', '.join(active.classes)}; parameters: {active.parameters}"
    best = f"best epoch {training.best_epoch} of {training.epochs_run}, by {training.monitor}"
    yield f"- started from: {training.init}; {best}"
    yield f"- seed: {params.seed}; threads: {params.runtime.threads}; numerics: {params.runtime.numerics}"
    yield f"- weights: `{active.weights.file}`, sha256 {active.weights.sha256}"
    yield from ("", "## Limits", "")
    yield (
        "The scores hold for images like those of the test split. The report (`reports/"
        f"{facts.study}/report.md`) has every class, the comparisons between phases and what the data lack."
    )
    yield from _howto(facts)


def _rows(name: str, scores: Scores) -> Iterator[str]:
    for split in scores.splits:
        for metric in METRICS[scores.task]:
            estimate = scores.metric(metric.name, split)
            if metric.place == SPLIT and estimate.value is not None:
                label = metric.label or metric.name
                yield f"| {name} | {split} | {label} | {_shown(estimate)} | {estimate.n} |"


def _shown(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _howto(facts: Facts) -> Iterator[str]:
    yield from ("", "## How to check this capsule", "", "```")
    yield "retrace verify capsule.zip            # seconds: hashes, records, report, metadata; no network"
    yield "retrace verify capsule.zip --rerun    # everything is trained and evaluated again"
    yield "```"
    yield ""
    yield "Without Retrace, the commit is a Git bundle without history:"
    yield ""
    yield "```"
    yield f"git init project && cd project && echo {facts.commit} > .git/shallow"
    yield "git fetch ../repository.bundle HEAD && git checkout FETCH_HEAD"
    yield "```"
    yield ""
    yield (
        "`cache/` holds the results that Git does not, filed by their md5 as in a DVC cache. `ro-crate-metadata.json` "
        "lists the files, `croissant.json` describes the data, `sbom.cdx.json` the environment and the models."
    )
