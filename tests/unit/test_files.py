"""Files that cannot be written end in one message, wherever the system refuses."""

import tempfile
from pathlib import Path

import pytest

from retrace.errors import UserError
from retrace.files import whole_folder, write_bytes


def fill(path):
    with whole_folder(path) as folder:
        (folder / "x").write_text("x")


@pytest.mark.parametrize("write", [lambda path: write_bytes(path, b"x"), fill])
@pytest.mark.parametrize("refused", ["mkdir", "mkstemp", "mkdtemp"])
def test_a_folder_that_is_not_writable_is_one_message(tmp_path, monkeypatch, write, refused):
    if (write is fill) == (refused == "mkstemp"):
        refused = "mkdir"

    def refuse(*arguments, **named):
        raise PermissionError(13, "Permission denied", str(tmp_path / "models"))

    monkeypatch.setattr(Path if refused == "mkdir" else tempfile, refused, refuse)
    with pytest.raises(UserError, match="models/base: could not be written .*Permission denied.*fix the permissions"):
        write(tmp_path / "models" / "base")


@pytest.mark.parametrize("write", [lambda path: write_bytes(path, b"x"), fill])
def test_a_file_where_a_folder_should_be_is_one_message(tmp_path, write):
    (tmp_path / "models").write_text("")
    with pytest.raises(UserError, match="models/base: could not be written"):
        write(tmp_path / "models" / "base")
