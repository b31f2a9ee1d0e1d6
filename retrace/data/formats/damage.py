"""Why a file that should be a picture is none: what its first bytes say about the way it took."""

from pathlib import Path

# how the eight bytes that every PNG begins with (PNG specification, 5.2) look after a detour; they were chosen for this
DETOURS = (
    (b"\x89PNG\n\x1a\n", "line ends converted: a transfer in text mode took out bytes"),
    (b"\x89PNG\r\r\n\x1a\r\n", "line ends converted: a transfer in text mode put in bytes"),
    (b"\x89PNG\r\r\n", "line ends converted: a transfer in text mode put in bytes"),
    (b"\x89PNG\r\x1a\r", "line ends converted: a transfer in text mode changed bytes"),
    (b"\tPNG\r\n", "the highest bit of every byte is lost: a transfer of 7 bits"),
    (b"\xef\xbf\xbdPNG", "read and saved as UTF-8 text, which lost bytes"),
    (b"\xc2\x89PNG", "read and saved as UTF-8 text, which changed bytes"),
    (b"version https://git-lfs", "a pointer of Git LFS and not the file: run `git lfs pull`"),
    (b"<html", "a page of a web site"),
    (b"<!doc", "a page of a web site"),
)
REMEDY = "copy the original again, in binary mode"


def reason_of(path: Path) -> str:
    """The end of a message about an unreadable picture: '; ' and what happened to the file, or nothing."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(32)
    except OSError:
        return ""
    for start, what in DETOURS:
        if head.startswith(start) or (start.startswith(b"<") and head.lower().startswith(start)):
            return f"; {what}" if "git lfs" in what else f"; {what}; {REMEDY}"
    return ""
