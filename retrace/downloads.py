"""One file from an https address, for data archives and published weights.

torch.hub's downloader waits without end for a server that says nothing, follows an address to plain http, and loads
PyTorch, which `collect` does without; huggingface_hub's serves the Hub only.
"""

import http.client
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from retrace.errors import UserError
from retrace.files import SCRATCH
from retrace.progress import bars

DOWNLOADS = SCRATCH / "downloads"
TIMEOUT = 60  # seconds without a byte
BLOCK = 2**20  # bytes


@contextmanager
def downloaded(url: str, what: str, instead: str) -> Iterator[Path]:
    """A temporary file below `DOWNLOADS` with all bytes of `url`, deleted unless the caller renames it.

    Args:
        what: what the message is about, e.g. the parameter that leads to the address.
        instead: what the user can do where the download fails.

    Raises:
        UserError: there is no network, the server refuses or leads on to plain http, the connection ends early, or the
            file cannot be written.
    """
    try:
        DOWNLOADS.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=DOWNLOADS, suffix=".partial")
    except OSError as error:
        raise UserError(f"{DOWNLOADS}: cannot be written ({error.strerror}); fix the permissions") from None
    temporary = Path(name)
    try:
        try:
            with os.fdopen(handle, "wb") as stream:
                _read(url, stream)
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            raise UserError(f"{what}: {reason}; check the address, or {instead}") from None
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "reason", None) or error
            raise UserError(f"{what}: could not be downloaded ({why}); check the network, or {instead}") from None
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _read(url: str, stream: IO[bytes]) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response, bars() as progress:
        if url.startswith("https://") and not response.url.startswith("https://"):
            raise OSError(f"it leads on to {response.url.split('?')[0]}, which is not https")
        length = response.headers.get("Content-Length") or ""
        size = int(length) if length.isdecimal() else 0
        task = progress.add_task("download", total=-(-size // BLOCK) or None, info="MiB")
        while block := response.read(BLOCK):
            stream.write(block)
            progress.advance(task)
        if size and stream.tell() != size:
            raise OSError(f"{stream.tell()} of {size} bytes arrived")
