"""What ties a kit, its key and its answers together: HMACs, the commitment to the key, and the chain of answers."""

import hashlib
import hmac
import json
from collections.abc import Sequence

Record = Sequence[str | int | bool]  # phase, position, item, repeat, question, value, milliseconds


def item_id(secret: str, source: str, image_id: str) -> str:
    """Return the name of an image in the pages: 16 hex digits that only the holder of the secret can tell."""
    return _hmac(secret, f"item/{source}/{image_id}")[:16]


def reader_token(secret: str, kit: str, reader: str) -> str:
    """Return what a reader's page starts its chain with, so that one reader's answers cannot pass for another's."""
    return _hmac(secret, f"reader/{kit}/{reader}")[:32]


def commitment(key: bytes, nonce: str) -> str:
    """Return the SHA-256 of the key's bytes and a nonce: printed before the answers come, it fixes the truth."""
    return hashlib.sha256(key + nonce.encode()).hexdigest()


def chain_start(kit: str, reader: str, token: str) -> str:
    """Return the digest before the first answer."""
    return _sha256(f"{kit}/{reader}/{token}")


def chained(previous: str, record: Record) -> str:
    """Return the digest after `record`: SHA-256 of the previous one and the record's JSON, as the page makes it."""
    return _sha256(previous + json.dumps(list(record), separators=(",", ":"), ensure_ascii=True))


def closing_code(last: str) -> str:
    """Return the code that the page shows at its end: the first 16 digits of the last digest, in fours."""
    return "-".join(last[start : start + 4] for start in range(0, 16, 4))


def _hmac(secret: str, text: str) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
