"""Signatures: keys, the envelope, the statement about a study's results, and what is said of each that does not fit."""

import base64
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from retrace.documents.statement import Envelope
from retrace.errors import UserError
from retrace.provenance.dsse import IN_TOTO, opened, pre_authentication, seal
from retrace.provenance.keys import key_id, new_pair, private_key, public_key
from retrace.provenance.verify.signed import check, place, signed
from tests.support.projects import ROOT, commit, run
from tests.support.two_studies import LOCKED, OTHER, job_of, make, read_lock, write_lock
from tests.support.verified import edit

KEY, STRANGER = (ed25519.Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))


# --- the envelope


def test_the_bytes_that_are_signed_are_those_of_the_specification():
    """The example of protocol.md of DSSE."""
    assert pre_authentication("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@settings(max_examples=30)
@given(st.text(), st.binary(), st.text(), st.binary())
def test_no_two_payloads_are_signed_as_the_same_bytes(kind, payload, other_kind, other):
    same = pre_authentication(kind, payload) == pre_authentication(other_kind, other)
    assert same == ((kind, payload) == (other_kind, other))


def test_a_signature_holds_for_an_independent_reader():
    """Without our code: the encoding as the specification words it, the signature with `cryptography`."""
    envelope = json.loads(json.dumps(seal(b'{"a": 1}', KEY).content()))
    body, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    encoded = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(body)).encode(), body])
    (signature,) = envelope["signatures"]
    KEY.public_key().verify(base64.b64decode(signature["sig"]), encoded)
    assert body == b'{"a": 1}' and envelope["payloadType"] == "application/vnd.in-toto+json"
    raw = KEY.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    der = bytes.fromhex("302a300506032b6570032100") + raw  # RFC 8410
    assert signature["keyid"] == hashlib.sha256(der).hexdigest()
    with pytest.raises(InvalidSignature):
        KEY.public_key().verify(base64.b64decode(signature["sig"]), body)


def test_one_of_several_signatures_is_enough_and_base64_may_be_url_safe():
    one, other = seal(b"x", STRANGER), seal(b"x", KEY)
    both = Envelope(payloadType=IN_TOTO, payload=one.payload, signatures=[*one.signatures, *other.signatures])
    assert opened(both, KEY.public_key(), "both") == b"x"
    safe = other.content()
    safe["signatures"][0]["sig"] = safe["signatures"][0]["sig"].replace("+", "-").replace("/", "_")
    assert opened(Envelope(**safe), KEY.public_key(), "safe") == b"x"


# --- keys


def test_a_new_pair_is_private_fits_together_and_is_never_overwritten(tmp_path):
    old = os.umask(0)
    try:
        public = new_pair(tmp_path / "lab")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "lab").stat().st_mode) == 0o600
    assert key_id(private_key(tmp_path / "lab").public_key()) == key_id(public_key(public))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match="exists already"):
        new_pair(tmp_path / "lab")
    (tmp_path / "lab").unlink()
    with pytest.raises(UserError, match=r"lab\.pub: exists already"):
        new_pair(tmp_path / "lab")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == {public: before[public]}


def test_no_private_key_is_written_into_a_repository_or_a_folder_that_is_not_there(tmp_path):
    run(tmp_path, "git", "init", "-q", check=True)
    with pytest.raises(UserError, match="inside a Git repository"):
        new_pair(tmp_path / "lab")
    with pytest.raises(UserError, match="there is no folder"):
        new_pair(tmp_path / "nowhere" / "lab")
    assert [path.name for path in tmp_path.iterdir()] == [".git"]


def pem(key, **options):
    form = {"format": serialization.PrivateFormat.PKCS8, "encryption_algorithm": serialization.NoEncryption()}
    return key.private_bytes(serialization.Encoding.PEM, **(form | options))


WRONG_KEYS: dict[str, tuple[Callable[[Path], object], str]] = {
    "is not there": (lambda path: None, "no such file"),
    "is a folder": (lambda path: path.mkdir(), "not a file"),
    "is a pipe": (lambda path: os.mkfifo(path), "not a file"),
    "is empty": (lambda path: path.write_bytes(b""), "PEM"),
    "is cut off": (lambda path: path.write_bytes(pem(KEY)[:60]), "key"),
    "is noise": (lambda path: path.write_bytes(bytes(range(256)) * 100), "PEM"),
    "is of another kind": (lambda path: path.write_bytes(pem(ec.generate_private_key(ec.SECP256R1()))), "key"),
}


@pytest.mark.parametrize("kind", WRONG_KEYS)
@pytest.mark.parametrize("load", [private_key, public_key])
def test_a_file_that_is_no_key_is_one_message(tmp_path, kind, load):
    write, said = WRONG_KEYS[kind]
    write(tmp_path / "key")
    with pytest.raises(UserError, match=said) as error:
        load(tmp_path / "key")
    assert str(error.value).startswith(str(tmp_path / "key")) and "\n" not in str(error.value)


def test_keys_that_are_mixed_up_or_encrypted_are_named(tmp_path):
    public = new_pair(tmp_path / "lab")
    with pytest.raises(UserError, match="a public key; signing needs the private key"):
        private_key(public)
    with pytest.raises(UserError, match="a private key, which belongs to who signs"):
        public_key(tmp_path / "lab")
    locked = pem(KEY, encryption_algorithm=serialization.BestAvailableEncryption(b"word"))
    (tmp_path / "locked").write_bytes(locked)
    with pytest.raises(UserError, match="encrypted"):
        private_key(tmp_path / "locked")


# --- the statement


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two studies, both signed at HEAD, the signatures committed."""
    root = tmp_path_factory.mktemp("signing") / "project"
    make(root)
    for study in (LOCKED, OTHER):
        signed(job_of(root, study, head(root)), KEY).write(root / place(study))
    commit(root, "signatures")
    return root


@pytest.fixture
def project(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "project"))


def head(root):
    return run(root, "git", "rev-parse", "HEAD", check=True).stdout.strip()


def complaint(root, study, key=KEY):
    """The message of `retrace verify --key`; empty where the signature holds."""
    try:
        check(job_of(root, study, head(root)), key.public_key())
    except UserError as error:
        return str(error)
    return ""


def payload(root, study):
    return json.loads(base64.b64decode(json.loads((root / place(study)).read_text())["payload"]))


@pytest.mark.slow
@pytest.mark.parametrize("study", [LOCKED, OTHER])
def test_the_statement_names_each_result_with_the_hash_of_its_bytes(made, study):
    statement = payload(made, study)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert list(statement) == ["_type", "subject", "predicateType", "predicate"]
    named = {row["name"]: row["digest"] for row in statement["subject"]}
    assert len(named) == len(statement["subject"])
    files = [path for path in (made / "reports" / study).rglob("*") if path.is_file()]
    files += (made / "metrics" / study).glob("*.json")
    for path in files:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert named[path.relative_to(made).as_posix()]["sha256"] == digest
    provenance = json.loads((made / f"reports/{study}/provenance.json").read_text())
    for stage in provenance["stages"].values():
        for path, md5 in stage["outs"].items():
            assert named[path]["dvcDirMd5" if md5.endswith(".dir") else "md5"] == md5.removesuffix(".dir")
    predicate = statement["predicate"]
    assert predicate["study"] == study
    assert predicate["commit"] == {"digest": {"gitCommit": run(made, "git", "rev-parse", "HEAD~1").stdout.strip()}}
    for name in ("parameters", "environment"):
        row = predicate[name]
        assert row["digest"]["sha256"] == hashlib.sha256((made / row["name"]).read_bytes()).hexdigest()


@pytest.mark.slow
def test_a_signature_holds_later_and_has_the_same_bytes_each_time(made):
    for study in (LOCKED, OTHER):
        assert complaint(made, study) == ""
    before = run(made, "git", "rev-parse", "HEAD~1").stdout.strip()
    again = signed(job_of(made, LOCKED, before), KEY).content()
    assert again == json.loads((made / place(LOCKED)).read_text())


@pytest.mark.slow
def test_a_signature_holds_after_dvc_lock_went_to_another_study(project):
    lock = read_lock(project)
    lock["stages"] = {"collect": {"cmd": "x", "outs": [{"path": "data/other/raw", "md5": "1" * 32}]}}
    write_lock(project, lock)
    job = job_of(project, LOCKED, head(project))
    assert job.record.file.endswith("provenance.json")
    assert complaint(project, LOCKED) == ""


def envelope(**changes):
    def change(root, study):
        path = root / place(study)
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def statement(edit, key=None):
    """An edited statement, with the old signature or signed anew with `key`."""

    def change(root, study):
        content = payload(root, study)
        edit(content)
        path, text = root / place(study), json.dumps(content).encode()
        if key is not None:
            seal(text, key).write(path)
            return
        whole = json.loads(path.read_text())
        path.write_text(json.dumps(whole | {"payload": base64.b64encode(text).decode()}))

    return change


def first_subject(content):
    content["subject"][0]["digest"] = {"sha256": "0" * 64}


def copied(root, study):
    other = OTHER if study == LOCKED else LOCKED
    shutil.copy(root / place(other), root / place(study))


def edited(pattern, new=None):
    """The bytes of a result, as one would who also makes every record anew: the signature alone can tell."""

    def change(root, study):
        path = sorted(root.glob(pattern.replace("@", study)))[0]
        path.write_bytes(path.read_bytes() + b"\n" if new is None else new)

    return change


def one_record(root, study):
    """Another md5 of an out, in both records."""
    recorded = job_of(root, study).record.paths()
    md5 = next(md5 for out, md5 in recorded.items() if out.startswith(f"models/{study}/"))
    for path in (root / "dvc.lock", root / f"reports/{study}/provenance.json"):
        path.write_text(path.read_text().replace(md5, "f" * 32 + ".dir"))


TAMPERING: dict[str, tuple[Callable[[Path, str], object], str]] = {
    "no signature file": (lambda root, study: (root / place(study)).unlink(), "no such file"),
    "no signature in it": (envelope(signatures=[]), "without a signature"),
    "another type of payload": (envelope(payloadType="text/plain"), "payloadType"),
    "payload that is not base64": (envelope(payload="%%%"), "not base64"),
    "signature that is not base64": (envelope(signatures=[{"keyid": "", "sig": "a"}]), "not base64"),
    "signature of nothing": (envelope(signatures=[{"keyid": key_id(KEY.public_key()), "sig": ""}]), "edited after"),
    "no JSON": (lambda root, study: (root / place(study)).write_text("{"), "not valid JSON"),
    "a list": (lambda root, study: (root / place(study)).write_text("[]"), "damaged"),
    "the commit edited": (
        statement(lambda content: content["predicate"]["commit"].update(digest={"gitCommit": "1" * 40})),
        "edited after"),
    "a subject edited": (statement(first_subject), "edited after"),
    "a subject left out": (statement(lambda content: content["subject"].pop()), "edited after"),
    "signed anew with another key": (statement(first_subject, STRANGER), "another key"),
    "another study's signature": (copied, "does not cover"),
    "signed: another subject": (statement(first_subject, KEY), "signed with sha256 000000000000"),
    "signed: a subject too few": (statement(lambda content: content["subject"].pop(), KEY), "does not cover it"),
    "signed: a subject too many": (
        statement(lambda content: content["subject"].append({"name": "reports/x", "digest": {}}), KEY),
        "reports/x: is signed, but the commit does not hold it"),
    "signed: a subject twice": (
        statement(lambda content: content["subject"].append(content["subject"][0]), KEY), "is a subject twice"),
    "signed: another type": (statement(lambda content: content.update(_type="x"), KEY), "_type"),
    "signed: another predicate": (statement(lambda content: content.update(predicateType="x"), KEY), "predicateType"),
    "signed: no predicate": (statement(lambda content: content.pop("predicate"), KEY), "predicate"),
    "signed: a commit of elsewhere": (
        statement(lambda content: content["predicate"]["commit"].update(digest={"gitCommit": "1" * 40}), KEY),
        "not in the history"),
    "signed: an option for Git": (
        statement(lambda content: content["predicate"]["commit"].update(digest={"gitCommit": "--all"}), KEY),
        "not in the history"),
    "a page": (edited("reports/@/report.md"), "report.md: signed with"),
    "a picture": (edited("reports/@/figures/samples/*.jpg"), "figures/samples"),
    "files.json": (edited("reports/@/files.json"), "files.json: signed with"),
    "a score": (edited("metrics/@/*.json"), "metrics/@/"),
    "a file added": (
        lambda root, study: (root / f"reports/{study}/tables/best.csv").write_text("better"), "does not cover it"),
    "a file removed": (
        lambda root, study: (root / f"reports/{study}/report.html").unlink(), "the commit does not hold it"),
    "an ablation added": (
        lambda root, study: shutil.copytree(root / f"reports/{study}", root / f"reports/{study}-ablation"),
        "does not cover it"),
    "weights, in both records": (one_record, ": signed with dvcDirMd5"),
    "the environment lock": (edited("requirements/runtime.txt"), "requirements/runtime.txt: signed with"),
}  # fmt: skip


CASES = [(kind, LOCKED) for kind in TAMPERING]
CASES += [(kind, OTHER) for kind in ("a page", "a score", "weights, in both records", "signed: another subject")]


@pytest.mark.slow
@pytest.mark.parametrize("kind, study", CASES, ids=[f"{study}: {kind}" for kind, study in CASES])
def test_what_does_not_fit_the_signature_is_named(project, kind, study):
    change, named = TAMPERING[kind]
    change(project, study)
    found = complaint(project, study)
    assert named.replace("@", study) in found, found


@pytest.mark.slow
def test_the_key_of_another_is_named(made):
    assert "signed with another key" in complaint(made, LOCKED, STRANGER)


@pytest.mark.slow
def test_a_signature_that_is_not_committed_yet_counts(project):
    text = (project / place(LOCKED)).read_text()
    clone = project.parent / "clone"
    run(project, "git", "rm", "-q", str(place(LOCKED)), check=True)
    commit(project, "without")
    run(project, "git", "clone", "-q", str(project), str(clone), check=True)
    (project / "signatures").mkdir(exist_ok=True)
    (project / place(LOCKED)).write_text(text)
    job = job_of(clone, LOCKED, head(clone))
    assert "signed with the key" in check(replace(job, project=project), KEY.public_key())


# --- the commands


def test_no_stage_writes_or_removes_signatures():
    blocks = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    rows = [row for block in blocks for row in block.get("do", block)["outs"]]
    outs = [next(iter(row)) if isinstance(row, dict) else row for row in rows]
    assert outs and not [out for out in outs if out.split("/")[0] == place("x").parts[0]]


@pytest.mark.parametrize("words", [[], ["--key", "a", "--new-key", "b"], ["--new-key", "b", "--study", "lanes"]])
def test_options_that_do_not_fit_together_are_refused(retrace, tmp_path, words):
    (tmp_path / "dvc.yaml").touch()
    refused = retrace(tmp_path, "sign", *words)
    assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1 and "--new-key" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["dvc.yaml"]


@pytest.mark.slow
def test_signing_and_verifying_by_command(retrace, project, tmp_path, monkeypatch):
    monkeypatch.setattr("retrace.environment.differences", lambda lock: [])  # of this study: a made-up lock
    for name in ("lab", "stranger"):
        assert retrace(tmp_path, "sign", "--new-key", tmp_path / name).returncode == 0
    done = retrace(project, "sign", "--key", tmp_path / "lab", "--study", OTHER)
    assert done.returncode == 0, done.stderr
    quick = ("verify", "--no-rerun", "--study", OTHER, "--key")
    done = retrace(project, *quick, tmp_path / "lab.pub")  # not committed yet; the commit has one of another key
    assert done.returncode == 1 and "signed with another key" in done.stderr
    commit(project, "signed again")
    done = retrace(project, *quick, tmp_path / "lab.pub")
    assert done.returncode == 0 and "signed with the key" in done.stdout, done.stderr
    before = (project / place(OTHER)).read_bytes()
    edit(project / f"reports/{OTHER}/report.md", "Summary", "Success")
    commit(project, "a better page")
    refused = retrace(project, "sign", "--key", tmp_path / "lab", "--study", OTHER)
    assert refused.returncode == 1 and "not signed: " in refused.stderr and "report.md" in refused.stderr
    assert (project / place(OTHER)).read_bytes() == before
