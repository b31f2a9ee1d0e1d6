"""`retrace pack` and `retrace verify capsule.zip`: the same bytes each time, metadata, and every kind of tampering."""

import hashlib
import json
import re
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

import pytest
import yaml

from retrace.capsule import archive, repository
from retrace.capsule.check import differences, unpack
from retrace.capsule.checklist import NOT_SHOWN, items
from retrace.capsule.facts import read_facts
from retrace.capsule.sbom import dependencies_of, packages_of
from retrace.cli.pack import packed_members
from retrace.environment import pins
from retrace.errors import UserError
from retrace.provenance.md5 import Cache
from retrace.provenance.verify.signed import place
from tests.support.projects import ROOT, commit, run
from tests.support.two_studies import LOCKED, complaints, job_of, make
from tests.support.verified import flip

Members = dict[str, bytes]


# --- the zip


def test_a_zip_has_the_same_bytes_each_time_and_is_read_as_it_was_written(tmp_path):
    (tmp_path / "late").write_bytes(b"two")
    for number in (1, 2):
        archive.write(tmp_path / f"{number}.zip", {"b/c": tmp_path / "late", "a": b"one"})
        shutil.copystat(ROOT / "LICENSE", tmp_path / "late")  # another time
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.suffix not in (".zip", "")] == []
    with zipfile.ZipFile(tmp_path / "1.zip") as opened:
        assert opened.namelist() == ["a", "b/c"] and opened.testzip() is None
        assert {info.date_time for info in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {stat.S_IMODE(info.external_attr >> 16) for info in opened.infolist()} == {0o644}
    archive.read(tmp_path / "1.zip", tmp_path / "read" / "here")
    found = archive.files_of(tmp_path / "read" / "here")
    assert {name: path.read_bytes() for name, path in found.items()} == {"a": b"one", "b/c": b"two"}


HOSTILE = ["../out", "/out", "a/../../out", "..\\out", "C:\\out", "a\\b"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    archive.write(tmp_path / "x.zip", {"a": b"one", name: b"two"})
    with pytest.raises(UserError, match="leads out of the folder"):
        archive.read(tmp_path / "x.zip", tmp_path / "read" / "here")
    assert not (tmp_path / "out").exists() and archive.files_of(tmp_path / "read" / "here") == {}


def rewritten(path: Path, **options: object) -> None:
    with zipfile.ZipFile(path) as opened:
        content = {name: opened.read(name) for name in opened.namelist()}
    with zipfile.ZipFile(path, "w", **options) as opened:
        for name, data in content.items():
            opened.writestr(name, data)


def linked(path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as opened:
        opened.writestr(info, "/etc/passwd")


def commented(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as opened:
        opened.comment = b"trust me"


FORMS: dict[str, Callable[[Path], object]] = {
    "no zip": lambda path: path.write_bytes(b"text"),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-30]),
    "bytes before": lambda path: path.write_bytes(b"more" + path.read_bytes()),
    "bytes after": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "a comment": commented,
    "a link": linked,
    "compressed": lambda path: rewritten(path, compression=zipfile.ZIP_DEFLATED),
    "other times": lambda path: rewritten(path),
    "a bit": flip,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_zip_in_any_other_form_is_one_message(tmp_path, form):
    path = tmp_path / "x.zip"
    archive.write(path, {"a": b"one" * 100, "b": b"two"})
    FORMS[form](path)
    with pytest.raises(UserError) as error:
        archive.read(path, tmp_path / "read" / "here")
    assert "x.zip" in str(error.value) and "\n" not in str(error.value)


# --- metadata of the real lock


def test_the_sbom_has_each_package_of_the_lock_with_its_hashes_and_who_asks_for_it():
    path = ROOT / "requirements" / "runtime.txt"
    text = path.read_text(encoding="utf-8")
    packages, needed_by = packages_of(text)
    assert [row["name"] for row in packages] == list(pins(path))
    hashes = [row["content"] for package in packages for row in package["externalReferences"][0]["hashes"]]
    assert len(hashes) == text.count("--hash=sha256:") and all(re.fullmatch("[0-9a-f]{64}", row) for row in hashes)
    asks = {row["ref"]: row["dependsOn"] for row in dependencies_of(packages, needed_by)}
    named = {package["name"]: package["bom-ref"] for package in packages}
    assert named["torch"] in asks["retrace"] and named["asyncssh"] not in asks["retrace"]
    assert named["cryptography"] in asks[named["asyncssh"]]
    assert set(asks) == {"retrace", *named.values()} and len(set(named.values())) == len(packages)


# --- a capsule


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("capsule") / "project"
    make(root, ("segmentation",), stored=True)
    for name in ("CITATION.cff", "LICENSE"):
        shutil.copy(ROOT / name, root / name)
    (root / place(LOCKED)).parent.mkdir()
    (root / place(LOCKED)).write_text("{}")  # a signature is copied as it is
    commit(root, "more files")
    return root


def packed(root: Path, temporary: Path) -> dict[str, bytes | Path]:
    temporary.mkdir(exist_ok=True)
    head = run(root, "git", "rev-parse", "HEAD", check=True).stdout.strip()
    return packed_members(job_of(root, LOCKED, head), temporary)


@pytest.fixture(scope="module")
def members(project, tmp_path_factory) -> Members:
    found = packed(project, tmp_path_factory.mktemp("packed"))
    return {name: content if isinstance(content, bytes) else content.read_bytes() for name, content in found.items()}


def complaint(members: Members, folder: Path, change: Callable[[Path], object] = lambda path: None) -> str:
    """What `retrace verify capsule.zip` says is wrong; the zip itself is changed by `change`."""
    archive.write(folder / "capsule.zip", members)
    change(folder / "capsule.zip")
    (folder / "temporary").mkdir()
    try:
        capsule = unpack(folder / "capsule.zip", folder / "temporary")
        wrong = differences(capsule, folder / "temporary")
        return "\n".join(wrong or complaints(capsule.root, LOCKED))
    except UserError as error:
        return str(error)


@pytest.mark.slow
def test_another_clone_with_other_packs_gives_the_same_bytes(project, members, tmp_path):
    run(tmp_path, "git", "clone", "-q", "--no-hardlinks", str(project), "clone", check=True)
    shutil.copytree(project / ".dvc" / "cache", tmp_path / "clone" / ".dvc" / "cache")
    run(tmp_path / "clone", "git", "repack", "-adfq", "--window=50", check=True)
    again = packed(tmp_path / "clone", tmp_path / "packed")
    archive.write(tmp_path / "one.zip", members)
    archive.write(tmp_path / "two.zip", again)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


@pytest.mark.slow
def test_what_is_in_a_capsule(project, members):
    files = run(project, "git", "ls-files", check=True).stdout.split()
    wanted = ("reports/", "metrics/", "signatures/", "CITATION.cff", "LICENSE", "dvc.", "requirements/")
    assert {name for name in files if name.startswith(wanted)} - {"metrics.json"} <= {*members}
    md5 = {row["md5"] for stage in yaml.safe_load(members["dvc.lock"])["stages"].values() for row in stage["outs"]}
    kept = {hashlib.md5(content).hexdigest(): name for name, content in members.items() if name.startswith("cache/")}
    assert all(name == f"cache/files/md5/{sum[:2]}/{sum[2:]}" for sum, name in kept.items() if ".dir" not in name)
    assert {sum for sum in md5 if sum.endswith(".dir")} >= {
        f"{sum}.dir" for sum, name in kept.items() if ".dir" in name
    }
    assert not [name for name in members if Path(name).suffix == ".safetensors" and not name.startswith("cache/")]


@pytest.mark.slow
def test_the_crate_names_each_file_with_its_sha256_and_no_entity_is_missing(members):
    """Rules of RO-Crate 1.3 and Workflow Run Crate 0.6; the official validator is not in the lock."""
    document = json.loads(members["ro-crate-metadata.json"])
    entities = {row["@id"]: row for row in document["@graph"]}
    assert len(entities) == len(document["@graph"]) and document["@context"] == "https://w3id.org/ro/crate/1.3/context"
    assert entities["ro-crate-metadata.json"]["about"] == {"@id": "./"}
    root = entities["./"]
    assert {"name", "description", "datePublished", "license"} <= set(root)
    listed = {row["@id"] for row in root["hasPart"]}
    own = {name for name in members if not name.startswith("cache/")} - {"ro-crate-metadata.json"}
    assert listed == own | {"cache/"}
    for name in own:
        assert entities[name]["sha256"] == hashlib.sha256(members[name]).hexdigest()
        assert entities[name]["contentSize"] == str(len(members[name])) and "File" in entities[name]["@type"]
    workflow, action = entities[root["mainEntity"]["@id"]], entities[root["mentions"][0]["@id"]]
    assert workflow["@type"] == ["File", "SoftwareSourceCode", "ComputationalWorkflow"]
    assert action["@type"] == "CreateAction" and action["instrument"] == root["mainEntity"]
    for value in re.findall(r'\{"@id": "([^"]+)"\}', json.dumps(document)):
        assert value in entities or urlparse(value).netloc in ("dvc.org", "schema.org", "w3id.org"), value


@pytest.mark.slow
def test_the_croissant_describes_files_that_are_there_with_the_columns_that_they_have(members):
    """Rules of Croissant 1.0; mlcroissant is not in the lock."""
    document = json.loads(members["croissant.json"])
    assert (document["@type"], document["conformsTo"]) == ("sc:Dataset", "http://mlcommons.org/croissant/1.0")
    assert re.fullmatch(r"[a-zA-Z0-9\-_.]+", document["name"]) and document["url"] and document["description"]
    files = {row["@id"]: row for row in document["distribution"]}
    for row in files.values():
        assert row["@type"] == "cr:FileObject" and row["encodingFormat"]
        assert hashlib.sha256(members[row["contentUrl"]]).hexdigest() == row["sha256"]
    (records,) = document["recordSet"]
    fields = {row["@id"]: row for row in records["field"]}
    assert records["key"]["@id"] in fields
    for field in fields.values():
        source = files[field["source"]["fileObject"]["@id"]]
        first = json.loads(members[source["contentUrl"]].splitlines()[0])
        kinds = {"sc:Text": (str, type(None)), "sc:Integer": int}
        assert isinstance(first[field["source"]["extract"]["column"]], kinds[field["dataType"]])


@pytest.mark.slow
def test_sbom_and_card_hold_the_scores_and_hashes_of_the_metrics_files(members):
    """Rules of CycloneDX 1.6 and of Hugging Face's model cards; their validators are not in the lock."""
    bom = json.loads(members["sbom.cdx.json"])
    assert (bom["bomFormat"], bom["specVersion"], bom["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bom["serialNumber"])
    references = [row["bom-ref"] for row in bom["components"]]
    assert len(set(references)) == len(references)
    models = {row["name"]: row for row in bom["components"] if row["type"] == "machine-learning-model"}
    head, text = re.fullmatch(r"---\n(.*?)---\n(.*)", members["README.md"].decode(), re.S).groups()
    (index,) = yaml.safe_load(head)["model-index"]
    for name in (name for name in members if re.fullmatch(rf"metrics/{LOCKED}/.*json", name)):
        scores = json.loads(members[name])
        model = models[f"{LOCKED}-{Path(name).stem}"]
        assert model["hashes"] == [{"alg": "SHA-256", "content": scores["weights"]["sha256"]}]
        for row in model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]:
            stated = scores["splits"][row["slice"]][row["type"]]
            bounds = row["confidenceInterval"]
            found = [float(row["value"]), float(bounds["lowerBound"]), float(bounds["upperBound"])]
            assert found == [stated[key] for key in ("value", "low", "high")]
        test = scores["splits"]["test"]["mIoU"]
        assert f"| {Path(name).stem} | test | mIoU | {test['value']:.3f} [" in text
        if index["name"].endswith(f"-{Path(name).stem}"):
            value = next(row for row in index["results"] if row["dataset"]["split"] == "test")["metrics"][0]["value"]
            assert value == test["value"]


# --- the checklist


@pytest.mark.slow
def test_each_item_of_the_checklist_leads_to_a_file_and_a_key_or_is_not_shown(project, tmp_path):
    facts = read_facts(project, Cache(project / ".dvc" / "cache"), LOCKED)
    found = items(facts)
    for row in found:
        file, _, key = row.evidence.partition(":")
        assert row.why and (file == NOT_SHOWN or (project / file).is_file()), row
        value = json.loads((project / file).read_text()) if key else {}
        for part in key.split(".") if key else ():
            value = value[part]
    shown = {row.question: row.evidence for row in found}
    assert shown["Results signed by those who made them?"] == place(LOCKED).as_posix()
    assert shown["Code of ethics?"] == NOT_SHOWN
    bare = Path(shutil.copytree(project, tmp_path / "bare"))
    for name in ("signatures", "LICENSE"):
        shutil.rmtree(bare / name) if (bare / name).is_dir() else (bare / name).unlink()
    later = {row.question: row.evidence for row in items(read_facts(bare, facts.cache, LOCKED))}
    lost = {question for question in shown if later[question] != shown[question]}
    assert lost == {"Results signed by those who made them?", "Open access to data and code?"}
    assert {later[question] for question in lost} == {NOT_SHOWN}


# --- tampering


def changed(
    pattern: str, edit: Callable[[bytes], bytes] = lambda content: content + b" "
) -> Callable[[Members], object]:
    def change(members: Members) -> None:
        name = next(name for name in sorted(members) if re.fullmatch(pattern, name))
        members[name] = edit(members[name])

    return change


def removed(pattern: str) -> Callable[[Members], object]:
    return lambda members: members.pop(next(name for name in sorted(members) if re.fullmatch(pattern, name)))


def bit(content: bytes) -> bytes:
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def largest(members: Members) -> None:
    """One bit of the weights."""
    name = max((name for name in members if name.startswith("cache/")), key=lambda name: len(members[name]))
    members[name] = bit(members[name])


def field(name: str, **values: str) -> Callable[[Members], object]:
    return changed(name, lambda content: json.dumps(json.loads(content) | values).encode())


def pattern_of(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(old, new, 1)


OBJECT = r"cache/files/md5/.."
TAMPERING: dict[str, tuple[Callable[[Members], object], str]] = {
    "a score in a metrics file": (changed("metrics/.*", lambda text: re.sub(rb"0\.\d+", b"0.9", text)), "metrics/"),
    "a page": (changed("reports/.*/report.md"), "report.md"),
    "a picture": (changed("reports/.*svg", bit), "svg"),
    "a page removed": (removed("reports/.*/report.html"), "report.html: missing"),
    "a page added": (lambda members: members.update({"reports/lanes/best.md": b"best"}), "reports/lanes/best.md"),
    "dvc.lock": (changed("dvc.lock"), "dvc.lock"),
    "the environment lock": (changed("requirements/runtime.txt"), "requirements/runtime.txt"),
    "the license": (changed("LICENSE"), "LICENSE"),
    "the signature": (changed("signatures/.*"), "signatures/lanes.dsse.json"),
    "the signature removed": (removed("signatures/.*"), "signatures/lanes.dsse.json: missing"),
    "a score of the model card": (changed("README.md", lambda text: re.sub(rb"0\.\d{3}", b"0.999", text)), "README.md"),
    "the list of packages": (changed("sbom.cdx.json", pattern_of(b"2.4.0", b"2.4.1")), "sbom.cdx.json"),
    "the description of the data": (changed("croissant.json"), "croissant.json"),
    "a hash in the crate": (changed("ro-crate-metadata.json", lambda text: re.sub(rb'"[0-9a-f]{64}"', b'"0"', text)),
                            "ro-crate-metadata.json"),
    "one bit of the weights": (largest, "is damaged"),
    "one bit of a listing": (changed(rf"{OBJECT}/.*\.dir", bit), "its bytes are not what its name says"),
    "an object removed": (removed(rf"{OBJECT}/[0-9a-f]{{30}}"), "is not in the DVC cache"),
    "an object added": (lambda members: members.update({"cache/files/md5/00/0": b""}), "cache/files/md5/00/0"),
    "one bit of the bundle": (changed("repository.bundle", bit), "repository.bundle"),
    "the head of the bundle": (
        changed("repository.bundle", lambda content: re.sub(rb"\n[0-9a-f]{8}", b"\n00000000", content, count=1)),
        "repository.bundle"),
    "the bundle removed": (removed("repository.bundle"), "has no repository.bundle"),
    "another commit": (field("capsule.json", commit="1" * 40), "repository.bundle"),
    "another study": (field("capsule.json", study="plates"), "reports/plates/parameters.json"),
    "another version": (field("capsule.json", retrace="9.9"), ""),
    "another code": (field("capsule.json", code="0" * 64), "neither installed nor in its commit"),
    "another folder": (field("capsule.json", folder="../.."), "a folder or a commit that cannot be"),
    "a path as the study": (field("capsule.json", study="../../x"), "no such file"),
    "no description of the capsule": (removed("capsule.json"), "has no capsule.json"),
    "a description that is no JSON": (lambda members: members.update({"capsule.json": b"{"}), "capsule.json"),
}  # fmt: skip
INFORMATION = {"another version"}  # of who packed it: nothing depends on it


def test_there_are_at_least_twenty_kinds():
    assert len({*TAMPERING} - INFORMATION) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted({*TAMPERING} - INFORMATION))
def test_tampering_is_found_and_named(members, tmp_path, kind):
    change, named = TAMPERING[kind]
    tampered = dict(members)
    change(tampered)
    found = complaint(tampered, tmp_path)
    assert named in found and found, found


@pytest.mark.slow
def test_a_commit_that_contradicts_itself_is_found_although_it_was_packed_again(project, tmp_path):
    """Whoever edits a page and packs the capsule anew, without the check that `retrace pack` starts with."""
    forged = Path(shutil.copytree(project, tmp_path / "forged"))
    page = forged / f"reports/{LOCKED}/report.md"
    page.write_text(page.read_text().replace("Summary", "Success", 1))
    commit(forged, "a better page")
    found = packed(forged, tmp_path / "packed")
    assert "report.md" in complaint(found, tmp_path)


@pytest.mark.slow
def test_a_commit_with_a_symbolic_link_is_refused(project, tmp_path):
    linked = Path(shutil.copytree(project, tmp_path / "linked"))
    (linked / "secrets").symlink_to("/etc/passwd")
    commit(linked, "a link")
    with pytest.raises(UserError, match="secrets is a symbolic link"):
        packed(linked, tmp_path / "packed")


@pytest.mark.slow
def test_packing_and_verifying_by_command_outside_of_a_project(retrace, project, tmp_path, monkeypatch):
    monkeypatch.setattr("retrace.environment.differences", lambda lock: [])  # of this study: a made-up lock
    done = retrace(project, "pack", "--out", tmp_path / "capsule.zip")
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "file")
    moved = project.rename(project.with_name("away"))  # no remote
    try:
        (tmp_path / "elsewhere").mkdir()
        done = retrace(tmp_path / "elsewhere", "verify", "../capsule.zip")
        assert done.returncode == 0, done.stderr
        assert "none differs" in done.stdout and "nothing was rerun" in done.stdout
        refused = retrace(tmp_path / "elsewhere", "verify", "../capsule.zip", "--study", "lanes")
        assert refused.returncode == 1 and "leave out --study" in refused.stderr
        assert list((tmp_path / "elsewhere").iterdir()) == []
    finally:
        moved.rename(project)


@pytest.mark.slow
def test_git_alone_reads_the_bundle_as_the_card_says(members, tmp_path):
    (tmp_path / "repository.bundle").write_bytes(members["repository.bundle"])
    lines = re.search(r"^git init project.*?(?=^```)", members["README.md"].decode(), re.M | re.S)[0]
    subprocess.run(["bash", "-ec", lines], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "project" / "dvc.lock").read_bytes() == members["dvc.lock"]
    assert repository.NAME in members["README.md"].decode()
