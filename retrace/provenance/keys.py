"""Ed25519 keys in PEM files: PKCS #8 for the private key, SubjectPublicKeyInfo for the public one."""

import hashlib
import os
from pathlib import Path

from retrace.errors import UserError
from retrace.programs import git

try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
except ModuleNotFoundError:
    raise UserError(
        "signatures need the package cryptography, which is not installed; in the project's folder: make venv; "
        "elsewhere: pip install 'retrace[sign]'"
    ) from None

LARGEST = 10_000  # bytes of a key file; a real one has about 120
NEW = "`retrace sign --new-key <file>` makes a pair"


def new_pair(path: Path) -> Path:
    """Write a new private key to `path`, for its owner alone (mode 0600), and the public one beside it.

    Returns the path of the public key, `<path>.pub`.

    Raises:
        UserError: one of the files exists, or the folder is inside a Git repository, where a private key would be
            committed sooner or later.
    """
    public = path.with_name(f"{path.name}.pub")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; make it first")
    for file in (path, public):
        if file.exists() or file.is_symlink():
            raise UserError(f"{file}: exists already, and a key is never overwritten; name another file")
    if git("rev-parse", "--show-toplevel", folder=path.parent, check=False):
        raise UserError(f"{path}: inside a Git repository, where a private key may be committed; name a file outside")
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    shared = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    _write_new(path, secret, 0o600)
    try:
        _write_new(public, shared, 0o644)
    except UserError:
        path.unlink()
        raise
    return public


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that must not exist, never readable by more users than `mode` says."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except FileExistsError:
        raise UserError(f"{path}: exists already, and a key is never overwritten; name another file") from None
    except OSError as error:
        raise UserError(f"{path}: could not be written ({error.strerror}); name a file in a folder of yours") from None


def private_key(path: Path) -> Ed25519PrivateKey:
    """The key in `path`. Raises `UserError` where it holds no unencrypted private Ed25519 key."""
    content = _content(path, "private")
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError:
        raise UserError(f"{path}: encrypted; decrypt it for the time of signing: openssl pkey -in {path}") from None
    except (ValueError, UnsupportedAlgorithm):
        what = "a public key" if b"PUBLIC KEY" in content else "no private key in PEM format"
        raise UserError(f"{path}: {what}; signing needs the private key; {NEW}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError(f"{path}: a private key, but not an Ed25519 one; {NEW}")
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """The key in `path`. Raises `UserError` where it holds no public Ed25519 key."""
    content = _content(path, "public")
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        secret = b"PRIVATE KEY" in content
        what = "a private key, which belongs to who signs alone" if secret else "no public key in PEM format"
        raise UserError(f"{path}: {what}; give the public key (<file>.pub) of who signed") from None
    if not isinstance(key, Ed25519PublicKey):
        raise UserError(f"{path}: a public key, but not an Ed25519 one; signatures are made with Ed25519")
    return key


def key_id(key: Ed25519PublicKey) -> str:
    """sha256 of the key's DER encoding, hex."""
    encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()


def _content(path: Path, kind: str) -> bytes:
    if not path.is_file():  # a pipe would be waited for
        why = "not a file" if path.exists() else "no such file"
        raise UserError(f"{path}: {why}; give the file of the {kind} key; {NEW}")
    try:
        with open(path, "rb") as stream:
            return stream.read(LARGEST)
    except OSError as error:
        raise UserError(f"{path}: the {kind} key cannot be read ({error.strerror})") from None
