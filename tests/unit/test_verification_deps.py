"""Every md5 of a dep in the record is held against what it names: an out, or files of the commit."""

import hashlib
import shutil

import pytest

from retrace.provenance.md5 import Cache, digest, listing
from retrace.provenance.verify.deps import check
from retrace.provenance.verify.records import Record, contradictions, from_lock
from tests.support.projects import commit, run

RAW, METRICS = "data/lanes/raw", "metrics/lanes"


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()


def write(root, **files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def project(tmp_path):
    """(folder, record) of a commit: code, lock and small results in Git, the data in the working folder alone."""
    root = tmp_path / "project"
    write(
        root,
        **{
            ".dvc/config": "",
            ".dvcignore": "__pycache__\n",
            ".gitignore": "/data\n/metrics/lanes/a\n__pycache__\n",
            "stages/finetune.py": "one",
            "retrace/data/a.py": "a",
            "retrace/data/b.py": "b",
            "requirements/runtime.txt": "numpy==1",
            f"{METRICS}/a.json": "{}",
            f"{METRICS}/a/images.txt": "x",
            f"{METRICS}/.gitignore": "/a\n",
            f"{RAW}/manifest.jsonl": "rows",
            f"{RAW}/images/x.png": "picture",
        },
    )
    run(root, "git", "init", "-q", "-b", "main", check=True)
    commit(root, "a run")
    write(root, **{"retrace/data/__pycache__/a.pyc": "compiled"})
    raw = digest(listing(root / RAW))
    outs = {
        "collect": {RAW: raw},
        "evaluate@a": {f"{METRICS}/a": digest(listing(root / METRICS / "a")), f"{METRICS}/a.json": md5("{}")},
    }
    deps = {
        "rebalance": {RAW: raw, "requirements/runtime.txt": md5("numpy==1")},
        "finetune@a": {
            f"{RAW}/manifest.jsonl": md5("rows"),
            "stages/finetune.py": md5("one"),
            "retrace/data": digest({"a.py": md5("a"), "b.py": md5("b")}),
        },
        "report": {METRICS: digest(listing(root / METRICS))},
    }
    return root, Record("dvc.lock", outs, deps)


def clone(root):
    target = root.parent / "clone"
    shutil.rmtree(target, ignore_errors=True)
    run(root, "git", "clone", "-q", str(root), str(target), check=True)
    return target


def checked(project, record=None):
    root, mine = project
    return check(clone(root), root, record or mine, Cache(root / ".dvc/cache"))


def test_an_untouched_record_is_right(project):
    found = checked(project)
    assert (found.compared, found.wrong, found.since, found.unchecked) == (6, [], [], {})


def test_one_digit_of_any_dep_is_found(project):
    record = project[1]
    for stage, deps in record.deps.items():
        for path, md5 in deps.items():
            other = ("1" if md5[0] != "1" else "2") + md5[1:]
            edited = Record("dvc.lock", record.outs, record.deps | {stage: deps | {path: other}})
            (line,) = checked(project, edited).wrong
            assert line.startswith(f"{stage}: {path}: dvc.lock says {other}, ") and md5 in line


def test_a_dep_that_names_a_file_the_out_does_not_hold_is_found(project):
    _, record = project
    edited = Record("dvc.lock", record.outs, {"rebalance": {f"{RAW}/list.csv": md5("rows")}})
    (line,) = checked(project, edited).wrong
    assert f"{RAW}/list.csv" in line and f"{RAW} holds no such file" in line


def test_code_that_changed_since_is_told_and_not_refused(project):
    root, _ = project
    write(root, **{"stages/finetune.py": "two", "retrace/data/c.py": "c"})
    commit(root, "another loop")
    found = checked(project)
    assert found.wrong == [] and found.since == ["retrace/data", "stages/finetune.py"]
    (root / "stages/finetune.py").unlink()
    commit(root, "gone")
    assert "stages/finetune.py" in checked(project).since


def test_what_is_not_here_is_named_with_the_reason(project):
    root, record = project
    shutil.rmtree(root / "data")
    outside = Record("dvc.lock", record.outs, record.deps | {"collect": {"data/external/lanes": "0" * 32 + ".dir"}})
    found = checked(project, outside)
    assert found.wrong == []
    assert f"the files of {RAW} are not here" in found.unchecked[f"{RAW}/manifest.jsonl"]
    assert found.unchecked["data/external/lanes"] == "not in Git"


def test_data_of_another_run_are_not_taken_for_the_recorded(project):
    root, _ = project
    write(root, **{f"{RAW}/manifest.jsonl": "other rows"})
    found = checked(project)
    assert found.wrong == [] and f"{RAW}/manifest.jsonl" in found.unchecked


def test_leftovers_in_a_folder_of_outs_are_no_edit_while_they_are_there(project):
    root, record = project
    write(root, **{f"{METRICS}/a/images.txt": "x", f"{METRICS}/gone.json": "{}"})
    deps = record.deps | {"report": {METRICS: digest(listing(root / METRICS))}}
    assert checked(project, Record("dvc.lock", record.outs, deps)).wrong == []
    (root / METRICS / "gone.json").unlink()
    (line,) = checked(project, Record("dvc.lock", record.outs, deps)).wrong
    assert "the folder held more than these outs" in line


def test_lock_and_provenance_must_name_the_same_deps(tmp_path, monkeypatch):
    from retrace.config.load import parse
    from retrace.files import write_json
    from tests.support.fixtures_documents import provenance
    from tests.support.verified import smallest

    params = parse(smallest())
    sums = {stage: {"deps": {"retrace/files.py": "1" * 32}, "outs": {RAW: "2" * 32}} for stage in ("collect",)}
    provenance(stages=sums).write(tmp_path / "reports/lanes/provenance.json")
    rows = {
        kind: [{"path": path, "md5": md5} for path, md5 in sums["collect"][kind].items()] for kind in sums["collect"]
    }
    rows["deps"][0]["md5"] = "3" * 32
    write_json(tmp_path / "dvc.lock", {"stages": {"collect": rows}})
    write_json(tmp_path / "dvc.yaml", {"stages": {}})  # JSON is YAML
    (line,) = contradictions(tmp_path, params, from_lock(tmp_path, params))
    assert line == (
        f"collect: retrace/files.py: dvc.lock says {'3' * 32}, reports/lanes/provenance.json says {'1' * 32}"
    )
