"""Text files that people write: UTF-8 with or without a byte order mark; others are refused with what they are."""

import codecs
from pathlib import Path

from retrace.errors import UserError

# a longer mark begins with a shorter one: UTF-32 first
MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
LOOKED_AT = 4096  # bytes


class NotUtf8(ValueError):
    """A text file in another encoding; the text says which one and what to do."""


def decoded(content: bytes) -> str:
    """The text of a file's bytes without its byte order mark; `NotUtf8` for other encodings than UTF-8."""
    found = encoding_of(content)
    if found == "UTF-8":
        return content.decode("utf-8-sig")
    if found is None:
        raise NotUtf8("not a text file: it holds bytes that no text has")
    remedy = f"save it as UTF-8, e.g. iconv -f {found} -t UTF-8 old.txt > new.txt"
    raise NotUtf8(f"the text is in {found}, not in UTF-8; {remedy}")


def read_utf8(path: Path, name: str = "") -> str:
    """The text of a file without its byte order mark. name: what messages call it.

    Raises:
        UserError: it is in another encoding, or no text.
        OSError: it cannot be read.
    """
    try:
        return decoded(path.read_bytes())
    except NotUtf8 as error:
        raise UserError(f"{name or path}: {error}") from None


def encoding_of(content: bytes) -> str | None:
    """The encoding of a text's bytes: by its byte order mark, its zero bytes or by trying; None: no text at all.

    Bytes that are not UTF-8 and could be any 8-bit encoding are called WINDOWS-1252 (the most frequent one) if it
    gives each of them a character, else GB18030 if that does, else ISO-8859-1.
    """
    for mark, name in MARKS:
        if content.startswith(mark):
            return name
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return _eight_bits(content)
    return _wide(content) if "\0" in text else "UTF-8"


def _wide(content: bytes) -> str | None:
    """UTF-16 without a mark: nearly every second byte of text in Latin letters and digits is zero."""
    head = content[:LOOKED_AT]
    even, odd = head[0::2].count(0), head[1::2].count(0)
    half = max(1, len(head) // 2)
    if len(content) % 2 == 0 and odd > 0.8 * half and even == 0:
        return "UTF-16LE"
    if len(content) % 2 == 0 and even > 0.8 * half and odd == 0:
        return "UTF-16BE"
    return None


def _eight_bits(content: bytes) -> str | None:
    if b"\0" in content:
        return _wide(content)
    for name in ("WINDOWS-1252", "GB18030"):
        try:
            content.decode(name)
        except UnicodeDecodeError:
            continue
        return name
    return "ISO-8859-1"
