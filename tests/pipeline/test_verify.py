"""`retrace verify` on a study that really ran: it comes out again, and every kind of tampering is found and named."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from retrace.errors import UserError
from retrace.provenance.md5 import Cache, digest, listing
from retrace.report.document import read
from retrace.report.render import render
from retrace.report.sums import write_sums
from tests.support.projects import commit, committed_run, copy_of, run, tiny_params, write_params
from tests.support.verified import STATED, as_process, edit, flip, smallest

pytestmark = pytest.mark.slow
WEIGHTS = "models/lanes/baseline/weights.safetensors"


@pytest.fixture(scope="module")
def results(tmp_path_factory, finished_study):
    """A project whose study ran and whose results are committed."""
    target = tmp_path_factory.mktemp("verified") / "project"
    return committed_run(target, smallest([STATED]), cache=finished_study("lanes"))


@pytest.fixture
def tampered(results, tmp_path):
    """A copy of it."""
    return copy_of(results, tmp_path / "copy")


def test_what_is_committed_comes_out_again(results, tmp_path):
    done = as_process(results, "verify", temporary=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verified: bit-identical" in done.stdout
    assert not list(tmp_path.glob("retrace-verify-*"))
    table = [line for line in done.stdout.splitlines() if re.search(r" (same|within tolerance)$", line.rstrip())]
    assert len(table) >= 12 and all(len(line.rstrip()) <= 80 for line in table)
    assert re.search(r"^expected +mIoU, test .*within tolerance", done.stdout, re.M)
    assert re.search(r"one-sided t-test p = 0\.\d+: no worse .*seeds 17: 0\.\d+, 18: 0\.\d+", done.stdout)
    log = Path(re.search(r"output of the stages: (.+)", done.stdout)[1])
    text = log.read_text()
    assert text.count("Running stage 'finetune@baseline'") == 2  # the study's seed and the other one
    assert "is cached - skipping run" not in text and "didn't change" not in text


def test_an_md5_that_was_edited_everywhere_is_found_by_the_rerun(tampered, tmp_path):
    """Also: a study that params.yaml and dvc.lock no longer hold, with the raw data from the cache."""
    md5 = yaml.safe_load((tampered / "dvc.lock").read_text())["stages"]["finetune@baseline"]["outs"][0]["md5"]
    wrong = "0123456789abcdef0123456789abcdef.dir"
    for path in (tampered / "reports").rglob("*"):
        if path.suffix in (".json", ".md", ".html", ".csv") and md5 in path.read_text():
            path.write_text(path.read_text().replace(md5, wrong))
    write_sums(tampered / "reports/lanes")
    for name in ("dvc.lock", "metrics.json"):  # without the lock, nothing records metrics.json
        (tampered / name).unlink()
    shutil.rmtree(tampered / "models")  # the trained weights would contradict the record at once
    other = tiny_params("slopes")
    write_params(tampered, other)
    commit(tampered, "another study is active, and an md5 is not what it was")
    quick = as_process(tampered, "verify", "--study", "lanes", "--no-rerun", temporary=tmp_path)
    assert quick.returncode == 0, quick.stdout + quick.stderr
    assert "recorded in reports/lanes/provenance.json" in quick.stdout
    done = as_process(tampered, "verify", "--study", "lanes", "--data-from-cache", temporary=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"^finetune@baseline +models/lanes/baseline +01234567 +\w{8} +DIFFERENT", done.stdout, re.M)
    assert re.search(r"^evaluate@baseline +metrics/lanes/baseline +(\w{8}) +\1 +same", done.stdout, re.M)
    assert re.search(r"^collect +data/lanes/raw +\w{8} +from cache +not rerun", done.stdout, re.M)
    kept = Path(re.search(r"the clone is kept for a closer look: (.+)", done.stderr)[1])
    assert kept.parent == tmp_path and (kept / "clone" / WEIGHTS).is_file()


def test_nothing_is_wrong_before_tampering(retrace, results):
    done = retrace(results, "verify", "--no-rerun")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing was rerun" in done.stdout
    assert re.search(r"\b(\d\d+) of \1 md5 of deps compared", done.stdout), done.stdout
    stored = re.search(r"results stored here: (\d+) of (\d+) outs that DVC keeps, undamaged", done.stdout)
    assert stored and stored[1] == stored[2]
    assert "not compared" not in done.stdout


def test_a_fresh_clone_says_what_it_could_not_look_at(retrace, results, tmp_path):
    run(results, "git", "clone", "-q", str(results), str(tmp_path / "fresh"), check=True)
    done = retrace(tmp_path / "fresh", "verify", "--no-rerun")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"results stored here: none of the \d+ outs that DVC keeps, so none was checked", done.stdout)
    compared = re.search(r"report: (\d+) of (\d+) printed numbers compared .* none differs", done.stdout)
    lost = re.search(
        r"(\d+) printed numbers not compared, their files are not here .*dataset\.json \(\d+\)", done.stdout
    )
    assert int(compared[1]) + int(lost[1]) == int(compared[2])
    assert re.search(r"deps not compared: .*models/lanes", done.stdout)


def test_a_result_that_git_kept_and_no_longer_holds_is_named(retrace, tampered):
    run(tampered, "git", "rm", "-q", "metrics.json", check=True)
    commit(tampered, "who needs it")
    done = retrace(tampered, "verify", "--no-rerun")
    assert done.returncode == 1 and "metrics.json: dvc.lock says" in done.stderr
    assert "the commit does not hold it" in done.stderr


def test_one_flipped_byte_in_the_weights_is_named(retrace, tampered):
    flip(tampered / WEIGHTS)
    done = retrace(tampered, "verify")
    assert done.returncode == 1 and WEIGHTS in done.stderr and "rerunning" not in done.stdout


def test_one_flipped_byte_in_the_cache_is_named(retrace, tampered):
    md5 = listing(tampered / "models/lanes/baseline")["weights.safetensors"]
    flip(Cache(tampered / ".dvc/cache").path(md5))
    done = retrace(tampered, "verify")
    assert done.returncode == 1 and WEIGHTS in done.stderr and md5[2:] in done.stderr


@pytest.mark.parametrize("page", ["report.md", "report.html", "REPRODUCTION_GUIDE.md"])
def test_one_edited_number_in_a_committed_report_is_named(retrace, tampered, page):
    path = tampered / "reports/lanes" / page
    number = re.search(r"\b0\.\d{3}\b", path.read_text())[0]
    edit(path, number, "0.999")
    commit(tampered, "a better score")
    done = retrace(tampered, "verify")
    assert done.returncode == 1
    assert any(page in line and "0.999" in line and number in line for line in done.stderr.splitlines()), done.stderr


def test_words_edited_in_report_json_and_on_every_page_are_named(retrace, tampered):
    """Also the md5 of the report in dvc.lock, as one who edits with care would."""
    folder = tampered / "reports/lanes"
    edit(folder / "report.json", "Brackets: 95 % interval", "a clear success", count=-1)
    render(read(folder).report, folder, folder)
    lock = yaml.safe_load((tampered / "dvc.lock").read_text())
    outs = lock["stages"]["report"]["outs"]
    next(row for row in outs if row["path"] == "reports/lanes")["md5"] = digest(listing(folder))
    (tampered / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    commit(tampered, "a better text")
    done = retrace(tampered, "verify", "--no-rerun")
    assert done.returncode == 1
    assert "report.json: pages." in done.stderr and "a clear success" in done.stderr


def test_one_changed_package_version_is_named_before_anything_runs(retrace, tampered):
    path = tampered / "requirements/runtime.txt"
    path.write_text(re.sub(r"(?m)^numpy==\S+", "numpy==1.0.0", path.read_text()))
    commit(tampered, "another lock")
    done = retrace(tampered, "verify")
    assert done.returncode == 1 and re.search(r"numpy: locked 1\.0\.0, installed \d", done.stderr)
    assert "torch" not in done.stderr and "rerunning" not in done.stdout


def test_one_edited_md5_in_the_lock_is_named(retrace, tampered):
    path = tampered / "dvc.lock"
    md5 = yaml.safe_load(path.read_text())["stages"]["finetune@baseline"]["outs"][0]["md5"]
    path.write_text(path.read_text().replace(md5, "f" * 32 + ".dir"))
    commit(tampered, "another md5")
    done = retrace(tampered, "verify")
    assert done.returncode == 1
    assert (
        f"models/lanes/baseline: dvc.lock says {'f' * 32}.dir, reports/lanes/provenance.json says {md5}" in done.stderr
    )


@pytest.mark.parametrize(
    "stage, dep",
    [
        ("finetune@baseline", "stages/finetune.py"),
        ("rebalance", "data/lanes/raw"),
        ("collect", "requirements/runtime.txt"),
        ("report", "retrace/report"),
        ("report", "models/lanes"),
    ],
)
def test_one_edited_md5_of_a_dep_is_named(retrace, tampered, stage, dep):
    """A dep may be an out itself or a file in one (data/lanes/raw/manifest.jsonl)."""
    path = tampered / "dvc.lock"
    lock = yaml.safe_load(path.read_text())
    row = next(row for row in lock["stages"][stage]["deps"] if row["path"].startswith(dep))
    right = row["md5"]
    row["md5"] = ("1" if right[0] != "1" else "2") + right[1:]
    path.write_text(yaml.safe_dump(lock, sort_keys=False))
    commit(tampered, "another md5")
    done = retrace(tampered, "verify", "--no-rerun")
    assert done.returncode == 1
    assert f"{stage}: {row['path']}: dvc.lock says {row['md5']}, " in done.stderr and right in done.stderr


def test_a_missing_cache_is_named_and_no_clone_is_kept(tampered, tmp_path):
    shutil.rmtree(tampered / ".dvc/cache")
    done = as_process(tampered, "verify", "--data-from-cache", temporary=tmp_path / "copy")
    assert done.returncode == 1 and "data/lanes/raw: " in done.stderr
    assert "`dvc repro`, or leave out --data-from-cache" in done.stderr
    assert "dvc pull" not in done.stderr  # there is no remote
    assert "is kept" not in done.stderr and not list((tmp_path / "copy").glob("retrace-verify-*"))


@pytest.mark.parametrize("name", ["reports/lanes/report.html", "reports/lanes/report.json"])
def test_a_file_that_is_gone_is_named_by_its_path_in_the_project(tampered, tmp_path, name):
    run(tampered, "git", "rm", "-q", name, check=True)
    commit(tampered, "gone")
    done = as_process(tampered, "verify", "--no-rerun", temporary=tmp_path)
    assert (
        done.returncode == 1 and f"{name}: no such file" in done.stderr and str(tmp_path / "retrace") not in done.stderr
    )


def test_commits_and_studies_that_do_not_exist_are_named(retrace, results):
    done = retrace(results, "verify", "--rev", "nowhere")
    assert done.returncode == 1 and "'nowhere': no such commit" in done.stderr
    done = retrace(results, "verify", "--study", "nothing")
    assert done.returncode == 1 and "'nothing'" in done.stderr and "allowed: lanes" in done.stderr
    assert "Traceback" not in done.stderr


def test_outside_of_git_and_before_the_first_commit_the_remedy_is_said(tmp_path):
    from retrace.provenance.verify.clone import resolve

    with pytest.raises(UserError, match="not in a Git repository"):
        resolve(tmp_path, "HEAD")
    run(tmp_path, "git", "init", "-q", check=True)
    with pytest.raises(UserError, match="no commit yet"):
        resolve(tmp_path, "HEAD")
