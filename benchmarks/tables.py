"""Tables of the documents in `PAGES` from benchmarks/results/*.json: `python -m benchmarks.tables`."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.harness import RESULTS
from benchmarks.project import ROOT
from retrace.files import read_json, write_text

PAGES = tuple(Path("docs", f"{name}.md") for name in ("benchmarks", "metrics", "scoring", "your-own-data"))
BLOCK = re.compile(r"(<!-- benchmark:(\w+) begin -->\n).*?(<!-- benchmark:\2 end -->)", re.S)
SHOWN = ("torch", "torchvision", "ultralytics", "faster-coco-eval", "dvc")
Result = dict[str, Any]


def training(found: Result) -> str:
    """Images per second of every side."""
    sides = ["limit", "retrace", "usual loop", "retrace, bfloat16"]
    rows = []
    for row in found["rows"]:
        cells = [_rate(row["images_per_second"].get(side)) for side in sides]
        share = f"{row['to_limit']:.2f}" if "to_limit" in row else "–"
        ours, half = (row["to_usual"].get(side) for side in ("retrace", "retrace, bfloat16"))
        rows.append([row["model"], *cells, share, _times(ours), _times(half)])
    headers = ["model", *sides, "of the limit", "to the usual loop", "bfloat16 to it"]
    height, width = found["size"]
    how = (
        f"Images/s, median (slowest–fastest) of {found['repetitions']} turns; batch {found['batch']}, {height} x "
        f"{width} pixels, {found['threads']} threads, fp32 unless said."
    )
    return f"{how}\n\n{_table(rows, headers)}"


def portable(found: Result) -> str:
    """Images per second under both numerics."""
    sides = ("portable", "native")
    rows = [
        [
            row["model"],
            *(_rate(row["images_per_second"][side]) for side in sides),
            _times(row["price"]),
        ]
        for row in found["rows"]
    ]
    height, width = found["size"]
    how = (
        f"Images/s of training, median (slowest–fastest) of {found['repetitions']} turns; {height} x {width} "
        f"pixels, masked autoencoders 224 x 224, {found['threads']} threads, fp32."
    )
    return f"{how}\n\n{_table(rows, ['model', 'portable', 'native', 'native is'])}"


def busy(found: Result) -> str:
    """Seconds beside other programs."""
    rows = [
        [row["load"], *(f"{row['seconds'][policy]:.0f}" for policy in ("PASSIVE", "ACTIVE")), f"{row['fair']:.0f}"]
        + [f"{row['to_fair']:.2f}"]
        for row in found["rows"]
    ]
    headers = ["beside", "waiting threads sleep, s", "they spin, s", "fair share, times alone", "measured to fair"]
    how = f"Best of {found['repetitions']} turns, {found['threads']} threads; starting Python is in every time."
    return f"{how}\n\n{_table(rows, headers)}"


def label_errors(found: Result) -> str:
    """Shares of planted label errors that are found, by study and kind."""
    kinds = sorted({kind for row in found["rows"] for kind in row["planted"]})
    rows = []
    for row in found["rows"]:
        shares = [_found(row["found"].get(kind, 0), row["planted"].get(kind, 0)) for kind in kinds]
        every = _found(sum(row["found"].values()), sum(row["planted"].values()))
        spread = f"{row['lowest']:.0%}–{row['highest']:.0%}"
        rows.append([f"{row['study']}, {row['phase']}", str(row["objects"]), *shares, every, spread])
    how = (
        "Share of the planted errors on which one of the first suspects lies, a tenth as many as there are objects; "
        f"{found['rows'][0]['draws']} draws, 5 % of the objects spoiled in each. A random order would find 10 %."
    )
    return f"{how}\n\n{_table(rows, ['study, phase', 'objects', *kinds, 'all', 'of one draw'])}"


def _found(hits: int, planted: int) -> str:
    return f"{hits / planted:.0%}" if planted else "–"


def kernels(found: Result) -> str:
    """Milliseconds of a layer, forward and backward."""
    kinds = ("float32", "bfloat16")
    rows = []
    for row in found["rows"]:
        cells = [row["layer"]]
        for kind in kinds:
            theirs, ours = row[kind]["library"], row[kind]["retrace"]
            cells += [f"{theirs:.1f}", f"{ours:.1f}", _times(theirs / ours)]
        rows.append(cells)
    headers = ["layer, forward and backward, ms"]
    for kind in kinds:
        headers += [f"library, {kind}", "retrace", "times as fast"]
    return _table(rows, headers)


def pretraining(found: Result) -> str:
    """Images per second with and without hiding."""
    rows = [
        [
            row["model"],
            row["mask_ratio"],
            *(_rate(row["images_per_second"][side]) for side in ("retrace", "all patches")),
        ]
        + [_times(row["gain"])]
        for row in found["rows"]
    ]
    return _table(rows, ["model", "share hidden", "retrace, images/s", "all patches, images/s", "gain"])


def evaluation(found: Result) -> str:
    """Seconds of ours and of the other tool."""
    rows = [
        [row["what"], f"{row['retrace_s']:.3f}", row["beside"], _seconds(row["beside_s"]), _times(row["times"])]
        for row in found["rows"]
    ]
    return _table(rows, ["what", "retrace, s", "beside", "its s", "times as fast"])


def scoring(found: Result) -> str:
    """The whole command."""
    row = found["rows"][0]
    counts = [f"{row[key]:,}" for key in ("images", "objects", "a", "b", "resamples")]
    how = f"Best of {found['repetitions']}; load of the machine before: {found['machine']['load_before']}."
    times = [f"{row[key]:.1f}" for key in ("seconds", "processor_seconds")]
    headers = ["images", "objects", "detections, a", "detections, b", "resamples", "seconds", "of processor time"]
    return f"{how}\n\n{_table([[*counts, *times]], headers)}"


def data(found: Result) -> str:
    """Growth with the number of images."""
    keys = ("group_s", "split_s", "peak_MiB")
    rows = [
        [f"{row['images']:,}", *(f"{row[key]:.2f}" for key in keys[:2]), f"{row['peak_MiB']:.0f}"]
        for row in found["rows"]
    ]
    growth = "; ".join(
        f"{name}: {', '.join(f'{step:.2f}' for step in found['growth'][key])}"
        for name, key in (("grouping", "group_s"), ("split", "split_s"))
    )
    return (
        f"{_table(rows, ['images', 'near-duplicate grouping, s', 'split, s', 'peak memory, MiB'])}\n\n"
        f"Growth from row to row over that of n log n (at most 1: no worse): {growth}. Reading, decoding and hashing a "
        f"640 x 480 JPEG takes {found['hash_ms']:.1f} ms on one core."
    )


def pipeline(found: Result) -> str:
    """Cold and no-op times."""
    rows = [
        [row["study"], f"{row['cold_s']:.0f}", f"{row['learning_s']:.0f}", f"{100 * row['outside']:.0f} %"]
        + [f"{row['noop_s']:.1f}", f"{row['cache_MiB']:.0f}", f"{row['load']:.1f}" if "load" in row else "–"]
        for row in found["rows"]
    ]
    headers = ["study", "cold, s", "of it training and evaluation, s", "outside", "no-op, s", "cache, MiB", "load"]
    text = _table(rows, headers)
    many = found.get("large")
    if many:
        text += f"\n\nWith {many['images']:,} images: first run {many['cold_s']:.0f} s, no-op {many['noop_s']:.1f} s."
    return text


def ablation(found: Result) -> str:
    """Time and disk of experiments."""
    (row,) = found["rows"]
    count, grown, took = row["experiments"], row["grown_MiB"], row["seconds"]
    return (
        f"{count} experiments took {took / 60:.1f} min, {took / count:.0f} s each, and {grown:.0f} MiB "
        f"of disk, {grown / count:.0f} MiB each (the largest model: {row['model_MiB']:.0f} MiB). The data, "
        f"{row['data_MiB']:.0f} MiB, is linked, not copied."
    )


def memory(found: Result) -> str:
    """Peak memory per stage."""
    rows = [
        [r["study"], r["stage"], f"{r['images']:,}", f"{r['peak_MiB']:.0f}", f"{r['seconds']:.0f}"]
        for r in found["rows"]
    ]
    return _table(rows, ["study", "stage", "images", "peak, MiB", "seconds"])


def coverage(found: Result) -> str:
    """Shares of simulated studies by design, and detectable differences."""
    metrics = list(dict.fromkeys(row["metric"] for row in found["rows"]))
    designs: dict[tuple[int, int, float], dict[str, Result]] = {}
    for row in found["rows"]:
        design = row["sequences"], row["images"], row["icc"]
        designs.setdefault(design, {})[row["metric"]] = row
    rows = []
    for (sequences, images, icc), by_metric in designs.items():
        cells = [f"{sequences} x {images}", str(icc) if images > 1 else "–"]
        for key in ("covered", "difference_covered", "false_verdicts"):
            cells.append(", ".join(f"{100 * by_metric[metric][key]:.1f}" for metric in metrics))
        rows.append(cells)
    of = ", ".join(metrics)
    what = ("holds the score", "holds the difference", "better or worse of equal models")
    headers = ["sequences x images", "ICC", *(f"{each}, %: {of}" for each in what)]
    powers = []
    for row in found["power"]:
        promised, simulated = row["promised"], row["simulated"]
        design = f"{row['sequences']} x {row['images']}"
        icc = str(row["icc"]) if row["images"] > 1 else "–"
        powers.append(
            [row["metric"], design, icc, f"{promised:.4f}", f"{simulated:.4f}", f"{promised / simulated:.2f}"]
        )
    detected = ["score", "sequences x images", "ICC", "stated", "found in 80 %", "stated to found"]
    repeated = []
    for row in found["seeds"]:
        ratio = f"{row['promised'] / row['simulated']:.2f}" if "simulated" in row else "–"
        design = f"{row['sequences']} x {row['images']}"
        icc = str(row["icc"]) if row["images"] > 1 else "–"
        false = f"{100 * row['false_verdicts']:.1f}"
        repeated.append([row["metric"], design, icc, row["spread"], row["seeds"], row["studies"], false, ratio])
    of_seeds = ["score", "sequences x images", "ICC", "spread over seeds (logit)", "seeds", "studies"]
    of_seeds += ["better or worse of equal settings, %", "detectable: stated to found"]
    return (
        f"{found['studies']} simulated studies in each row, unless it says how many.\n\n{_table(rows, headers)}\n\n"
        f"The smallest detectable difference that a comparison states (mean of the studies), and the true difference "
        f"that 80 % of the studies call better:\n\n{_table(powers, detected)}\n\n"
        f"Two phases with several seeds each:\n\n{_table(repeated, of_seeds)}"
    )


TABLES: dict[str, Callable[[Result], str]] = {
    "training": training,
    "portable": portable,
    "busy": busy,
    "kernels": kernels,
    "pretraining": pretraining,
    "evaluation": evaluation,
    "scoring": scoring,
    "data": data,
    "pipeline": pipeline,
    "ablation": ablation,
    "memory": memory,
    "coverage": coverage,
    "label_errors": label_errors,
}


def filled(text: str) -> str:
    """`text` with every block written anew from its results file; a benchmark without one says how to run it."""

    def block(match: re.Match[str]) -> str:
        name = match[2]
        path = RESULTS / f"{name}.json"
        if not path.is_file():
            return f"{match[1]}Not measured yet: `python -m benchmarks.{name}`.\n{match[3]}"
        found = read_json(path)
        return f"{match[1]}{_where(found['machine'])}\n\n{TABLES[name](found)}\n{match[3]}"

    return BLOCK.sub(block, text)


def _where(machine: Result) -> str:
    versions = ", ".join(f"{name} {machine['packages'][name]}" for name in SHOWN)
    size = f"{machine['cores']} cores, {machine['memory_GiB']} GiB"
    return f"{machine['cpu']}, {size}; Python {machine['python']}, {versions}."


def _rate(rate: dict[str, float] | None) -> str:
    return f"{rate['median']:.1f} ({rate['slowest']:.1f}–{rate['fastest']:.1f})" if rate else "–"


def _times(value: float | None) -> str:
    return f"{value:.2f}x" if value is not None and value < 10 else "–" if value is None else f"{value:.0f}x"


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3f}"


def _table(rows: list[list[Any]], headers: list[str]) -> str:
    align = ("left", *("right" for _ in headers[1:]))
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True, colalign=align)


def main() -> None:
    """Rewrite the pages in place."""
    for page in PAGES:
        path = ROOT / page
        write_text(path, filled(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
