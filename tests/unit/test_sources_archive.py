"""Archives as the data's root: checked before anything is written, unpacked once, hostile ones refused in one line."""

import hashlib
import io
import os
import ssl
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest

from retrace.config.data import Data
from retrace.data.formats import archive
from retrace.data.formats.archive import DOWNLOADS, open_root
from retrace.data.manifest import read_manifest
from retrace.errors import UserError
from stages import collect as stage

RAW = Path("data/lanes/raw")
COMPRESSION = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}


def data(root, **changes):
    """A data block that reads `root`."""
    source = {"kind": "masks", "images": "i", "masks": "m", "values": {}, "split": {"by": "ratio", "val": 0, "test": 0}}
    return Data.model_validate({"root": str(root), "source": source, **changes})


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """A working folder whose parent is this test's own, too: what escapes from it is looked for there."""
    (tmp_path / "working").mkdir()
    monkeypatch.chdir(tmp_path / "working")


@pytest.mark.parametrize("suffix", [".zip", *COMPRESSION])
def test_an_archive_gives_the_same_data_set_as_its_folder(dataset, suffix):
    for number in range(4):
        dataset.pair(f"ä_{number}")
    dataset.write_params()
    stage.main()
    expected = (RAW / "manifest.jsonl").read_bytes()
    name = f"all{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(name, "w") as packed:
            for path in sorted(dataset.root.rglob("*.*")):
                packed.write(path, path.relative_to(dataset.root))
    else:
        with tarfile.open(name, COMPRESSION[suffix]) as packed:
            packed.add(dataset.root, ".")
    dataset.write_params(root=name, sha256=sha256(name))
    stage.main()
    assert (RAW / "manifest.jsonl").read_bytes() == expected
    assert len(read_manifest(RAW).records) == 4


def test_an_archive_is_unpacked_once_and_checked_every_time():
    with zipfile.ZipFile("a.zip", "w") as packed:
        packed.writestr("x.txt", "hello")
    digest = sha256("a.zip")
    folder = open_root(data("a.zip", sha256=digest))
    assert (folder / "x.txt").read_text() == "hello"
    (folder / "x.txt").write_text("still the unpacked copy")
    assert (open_root(data("a.zip", sha256=digest)) / "x.txt").read_text() == "still the unpacked copy"
    Path("a.zip").write_bytes(Path("a.zip").read_bytes() + b" ")
    with pytest.raises(UserError, match=f"sha256 is .*, but data.sha256 says {digest}"):
        open_root(data("a.zip", sha256=digest))


def test_the_sha256_is_required_and_the_suffix_known():
    Path("a.zip").write_bytes(b"x")
    Path("a.rar").write_bytes(b"x")
    with pytest.raises(UserError, match=r"data.sha256: missing"):
        open_root(data("a.zip"))
    with pytest.raises(UserError, match=r"neither a folder nor an archive; allowed: .zip"):
        open_root(data("a.rar", sha256="0" * 64))


def refused(name):
    """The message with which the archive is refused; nothing may have been written outside or left inside."""
    before = sorted(str(path) for path in Path().resolve().parent.rglob("*"))
    with pytest.raises(UserError) as error:
        open_root(data(name, sha256=sha256(name)))
    after = sorted(str(path) for path in Path().resolve().parent.rglob("*"))
    assert [path for path in after if ".retrace" not in path] == [path for path in before if ".retrace" not in path]
    assert not [path for path in DOWNLOADS.rglob("*") if path.is_file()]
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "member", ["", "../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_that_escape(member, kind):
    if kind == "zip":
        with zipfile.ZipFile("a.zip", "w") as packed:
            packed.writestr("good.txt", "x")
            info = zipfile.ZipInfo("x")
            info.filename = member
            packed.writestr(info, "x")
    else:
        with tarfile.open("a.tar", "w") as packed:
            info = tarfile.TarInfo(member)
            info.size = 1
            packed.addfile(info, io.BytesIO(b"x"))
    assert "leads out of the folder" in refused(f"a.{kind}")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar(kind):
    with tarfile.open("a.tar", "w") as packed:
        info = tarfile.TarInfo("thing")
        info.type, info.linkname = kind, "/etc/passwd"
        packed.addfile(info)
    assert "member 'thing' is " in refused("a.tar")


def test_a_link_in_a_zip():
    with zipfile.ZipFile("a.zip", "w") as packed:
        info = zipfile.ZipInfo("thing")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(info, "/etc/passwd")
    assert "member 'thing' is a link" in refused("a.zip")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_absurd_expansion(kind, monkeypatch):
    monkeypatch.setattr(archive, "ALWAYS_FINE", 2**20)
    zeros = bytes(8 * 2**20)
    if kind == "zip":
        with zipfile.ZipFile("a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("zeros", zeros)
    else:
        with tarfile.open("a.tar.gz", "w:gz") as packed:
            info = tarfile.TarInfo("zeros")
            info.size = len(zeros)
            packed.addfile(info, io.BytesIO(zeros))
    assert "would expand from" in refused(f"a.{kind}")


def test_a_member_larger_than_it_says():
    with zipfile.ZipFile("a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("zeros", bytes(2**20))
    content = Path("a.zip").read_bytes().replace((2**20).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    Path("a.zip").write_bytes(content)
    assert "cannot be unpacked" in refused("a.zip")


def test_damaged_and_encrypted_archives():
    Path("a.zip").write_bytes(b"PK\x03\x04 not really")
    assert "cannot be unpacked" in refused("a.zip")
    Path("b.tar.gz").write_bytes(b"\x1f\x8b\x08 not really")
    assert "cannot be unpacked" in refused("b.tar.gz")
    with zipfile.ZipFile("c.zip", "w") as packed:
        packed.writestr("x", "secret")
    content = bytearray(Path("c.zip").read_bytes())
    content[6] |= 1  # general purpose flag, bit 0: encrypted
    content[content.index(b"PK\x01\x02") + 8] |= 1
    Path("c.zip").write_bytes(content)
    assert "encrypted" in refused("c.zip")


def test_a_truncated_tar_leaves_nothing():
    with tarfile.open("a.tar.gz", "w:gz") as packed:
        for number in range(4):
            info = tarfile.TarInfo(f"{number}.bin")
            info.size = 50_000
            packed.addfile(info, io.BytesIO(os.urandom(50_000)))
    Path("a.tar.gz").write_bytes(Path("a.tar.gz").read_bytes()[:120_000])
    assert "cannot be unpacked" in refused("a.tar.gz")


def test_too_little_room(monkeypatch):
    with zipfile.ZipFile("a.zip", "w") as packed:
        packed.writestr("x", bytes(1000))
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 999})())
    assert "needs 1,000 bytes unpacked, but only 999 are free" in refused("a.zip")


class Answer(io.BytesIO):
    """What a server sends back."""

    def __init__(self, content, url):
        super().__init__(content)
        self.url, self.headers = url, {"Content-Length": str(len(content))}


def served(monkeypatch, content, url="https://example.org/set.zip?token=1"):
    """Replace the network by one answer; returns the addresses that were asked for."""
    asked = []

    def urlopen(address, timeout):
        asked.append(address)
        if isinstance(content, Exception):
            raise content
        return Answer(content, url)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def packed_bytes():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        packed.writestr("x.txt", "hello")
    return stream.getvalue()


def test_a_download_is_checked_and_kept(monkeypatch):
    content = packed_bytes()
    block = data("studies", url="https://example.org/set.zip", sha256=hashlib.sha256(content).hexdigest())
    asked = served(monkeypatch, content)
    for _ in range(2):
        assert (open_root(block) / "x.txt").read_text() == "hello"
    assert asked == ["https://example.org/set.zip"]


@pytest.mark.parametrize(
    ("answer", "address", "said"),
    [
        (urllib.error.URLError("Name or service not known"), "", "check the network, or fetch the archive yourself"),
        (TimeoutError("timed out"), "", "could not be downloaded (timed out)"),
        (ssl.SSLCertVerificationError("self-signed certificate"), "", "self-signed certificate"),
        (urllib.error.HTTPError("https://x", 404, "Not Found", {}, None), "", "the server answers 404 Not Found"),
        (b"something else", "https://example.org/set.zip", "nothing was kept"),
        (b"something else", "http://example.org/set.zip", "which is not https"),
    ],
)
def test_downloads_that_fail_are_said_in_one_line(monkeypatch, answer, address, said):
    served(monkeypatch, answer, address)
    with pytest.raises(UserError) as error:
        open_root(data("studies", url="https://example.org/set.zip", sha256="0" * 64))
    assert said in str(error.value)
    assert not [path for path in DOWNLOADS.rglob("*") if path.is_file()]


def test_a_broken_connection_leaves_nothing(monkeypatch):
    class Breaking(Answer):
        def read(self, size=-1):
            raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **k: Breaking(b"", "https://example.org/set.zip"))
    with pytest.raises(UserError, match="Connection reset"):
        open_root(data("studies", url="https://example.org/set.zip", sha256="0" * 64))
    assert not [path for path in DOWNLOADS.rglob("*") if path.is_file()]
