"""Dead Simple Signing Envelope 1.0: a payload, its type, and Ed25519 signatures of both.

The specification: https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md
"""

import base64
import binascii

from cryptography.exceptions import InvalidSignature

from retrace.documents.statement import SIGN, Envelope, Signature
from retrace.errors import UserError
from retrace.provenance.keys import Ed25519PrivateKey, Ed25519PublicKey, key_id

IN_TOTO = "application/vnd.in-toto+json"


def pre_authentication(kind: str, payload: bytes) -> bytes:
    """What is signed: the lengths stand before both, so that no other pair has the same bytes (PAE of DSSE)."""
    encoded = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(encoded), encoded, len(payload), payload)


def seal(payload: bytes, key: Ed25519PrivateKey) -> Envelope:
    """The payload with its signature; the same bytes each time, as Ed25519 takes no random numbers."""
    signature = key.sign(pre_authentication(IN_TOTO, payload))
    made = Signature(keyid=key_id(key.public_key()), sig=base64.b64encode(signature).decode())
    return Envelope(payloadType=IN_TOTO, payload=base64.b64encode(payload).decode(), signatures=[made])


def opened(envelope: Envelope, key: Ed25519PublicKey, name: str) -> bytes:
    """The payload, once a signature of it is found to be the key's.

    Args:
        name: what messages call the envelope.

    Raises:
        UserError: another type of payload, no signature, or none that this key made of this payload.
    """
    if envelope.payloadType != IN_TOTO:
        raise UserError(f"{name}: payloadType is {envelope.payloadType!r}; allowed: {IN_TOTO}; sign again: {SIGN}")
    if not envelope.signatures:
        raise UserError(f"{name}: holds a statement without a signature; sign again: {SIGN}")
    payload = _decoded(envelope.payload, f"{name}: payload")
    signed = pre_authentication(envelope.payloadType, payload)
    for signature in envelope.signatures:
        try:
            key.verify(_decoded(signature.sig, f"{name}: sig"), signed)
            return payload
        except InvalidSignature:
            continue
    mine = key_id(key)
    others = sorted({signature.keyid for signature in envelope.signatures})
    if mine not in others:
        shown = ", ".join(other[:12] or "unnamed" for other in others)
        raise UserError(f"{name}: signed with another key ({shown}) than the one given ({mine[:12]})")
    raise UserError(
        f"{name}: the statement or its signature was edited after signing: it does not fit the key {mine[:12]}; "
        "restore the file as it was signed"
    )


def _decoded(text: str, name: str) -> bytes:
    """Standard or URL-safe base64: readers must accept both."""
    try:
        return base64.b64decode(text.translate(str.maketrans("-_", "+/")), validate=True)
    except (binascii.Error, ValueError):
        raise UserError(f"{name}: not base64, so the file is damaged; restore it as it was signed") from None
