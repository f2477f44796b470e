"""Searches files for the secrets of those who should not be in them.

Every secret key is its own canary: 32 bytes and more of chance stand nowhere by themselves.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

__all__ = ["Find", "forms_of", "search", "secrets_of"]

_NAMES = ("*.key", "*.secret")  # as every secret file of a party is called
_LEAST = 16  # bytes; fewer would be found by chance
# PEM bodies stand in lines, in JSON behind a backslash and an n.
_BREAKS = re.compile(rb"\s+|\\n|\\r")


@dataclass(frozen=True, kw_only=True)
class Find:
    """A secret of ``owner`` (its file ``secret``) in a file of ``holder``."""

    owner: str
    secret: str
    holder: str
    file: str


def secrets_of(root: Path) -> dict[str, bytes]:
    """Name below ``root`` -> bytes of every secret key there, renewed ones among them."""
    found = {
        str(path.relative_to(root)): path.read_bytes()
        for pattern in _NAMES
        for path in sorted(root.rglob(pattern))
        if path.is_file() and not path.is_symlink()
    }
    return {name: content for name, content in found.items() if len(content) >= _LEAST}


def forms_of(secret: bytes) -> set[bytes]:
    """How a secret could stand in a file: raw, hexadecimal, base64 at each of three offsets, the
    DER of a PEM file and the private number in it."""
    text = secret.strip()
    raws = {secret, text}
    if text.startswith(b"-----BEGIN"):
        raws |= set(_parts_of_pem(text))
    elif re.fullmatch(rb"[0-9a-fA-F]+", text) and len(text) % 2 == 0:
        raws.add(bytes.fromhex(text.decode()))
    return {form for raw in raws if len(raw) >= _LEAST for form in _encodings(raw)}


def _parts_of_pem(pem: bytes) -> Iterator[bytes]:
    body = b"".join(line for line in pem.splitlines() if not line.startswith(b"-----"))
    yield base64.b64decode(body)
    load = load_ssh_private_key if b"OPENSSH" in pem else load_pem_private_key
    key = load(pem, password=None)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size = (key.curve.key_size + 7) // 8
        yield key.private_numbers().private_value.to_bytes(size, "big")
    elif isinstance(key, ed25519.Ed25519PrivateKey | x25519.X25519PrivateKey):
        yield key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def _encodings(raw: bytes) -> Iterator[bytes]:
    yield raw
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    for offset in range(3):
        # Only the characters that depend on nothing but the secret.
        coded = base64.b64encode(bytes(offset) + raw)
        first, last = -(-offset * 8 // 6), (offset + len(raw)) * 8 // 6
        yield from {coded[first:last], coded[first:last].translate(_URL)}


_URL = bytes.maketrans(b"+/", b"-_")


def search(
    places: Mapping[str, Path], secrets: Mapping[str, Mapping[str, bytes]]
) -> tuple[list[Find], int]:
    """Secrets in files of ``places`` (holder -> folder), the owner's own among them; files read."""
    wanted = [
        (owner, name, forms_of(secret))
        for owner, held in secrets.items()
        for name, secret in held.items()
    ]
    found, count = [], 0
    for holder, root in places.items():
        for path in _files(root):
            count += 1
            for text in _contents(path):
                found += [
                    Find(owner=owner, secret=name, holder=holder, file=str(path.relative_to(root)))
                    for owner, name, forms in wanted
                    if any(form in text for form in forms)
                ]
    return list(dict.fromkeys(found)), count


def _files(root: Path) -> Iterable[Path]:
    if root.is_file():
        return [root]
    return sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink())


def _contents(path: Path) -> Iterator[bytes]:
    """The bytes of a file, those without line breaks, and those of what is packed in it."""
    content = path.read_bytes()
    texts = [content]
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            texts += [archive.read(name) for name in archive.namelist()]
    elif content.startswith(b"\x1f\x8b"):
        texts.append(gzip.decompress(content))
    elif content[:1] == b"\x78":
        with contextlib.suppress(zlib.error):
            texts.append(zlib.decompress(content))
    for text in texts:
        yield text
        yield _BREAKS.sub(b"", text)
