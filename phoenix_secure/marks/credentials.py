"""Content credentials: a signed C2PA manifest in a PNG, by the ``marks`` extra.

Source:     C2PA technical specification 2.2; c2pa-python, the binding of the reference code.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from phoenix_secure.marks.origin import Origin
from phoenix_secure.marks.signer import MarkSigner
from phoenix_secure.marks.xmp import SourceType

__all__ = ["Credentials", "State", "can_sign", "read_credentials", "sign_png"]

_LABEL = "org.phoenix-secure.origin"
_PNG = "image/png"
_UNKNOWN = Origin()
# Nothing is fetched: neither manifests that a file points to, nor answers about certificates.
_OFFLINE = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}


class State(StrEnum):
    """What became of the credentials."""

    NONE = "none"
    CHANGED = "changed"  # the image, or the credentials themselves
    INTACT = "intact"  # since they were signed, by whomever
    TRUSTED = "trusted"  # intact, and signed by the key that was asked for
    UNREADABLE = "not read"  # the extra is not installed


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """What a manifest says, and whether that can be believed.

    source_type   IPTC's term for how the picture was made
    signer        name in the certificate
    """

    state: State
    origin: Origin = _UNKNOWN
    source_type: str | None = None
    signer: str = ""
    problems: tuple[str, ...] = ()


def can_sign() -> bool:
    """Whether the ``marks`` extra is installed."""
    try:
        import c2pa  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


def sign_png(
    png: bytes, *, origin: Origin, source: SourceType, signer: MarkSigner, tool: tuple[str, str]
) -> bytes:
    """The PNG with a manifest in it.

    tool        name and version of the program
    """
    import c2pa

    created = {"action": "c2pa.created", "digitalSourceType": source.uri}
    manifest = {
        "claim_generator_info": [{"name": tool[0], "version": tool[1]}],
        "format": _PNG,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
            {"label": _LABEL, "data": origin.to_dict()},
        ],
    }
    signing = c2pa.Signer.from_info(
        c2pa.C2paSignerInfo(
            alg=b"ed25519", sign_cert=signer.certificates, private_key=signer.key, ta_url=None
        )
    )
    signed = io.BytesIO()
    builder = c2pa.Builder(json.dumps(manifest), _context(_OFFLINE))
    builder.sign(signing, _PNG, io.BytesIO(png), signed)
    return signed.getvalue()


def read_credentials(
    content: bytes, *, mime: str = _PNG, trusted: bytes | None = None
) -> Credentials:
    """What the credentials in a file say.

    trusted     certificates in PEM, of which one must stand above the signature

    Never raises for what a file holds.
    """
    if not can_sign():
        return Credentials(state=State.UNREADABLE)
    import c2pa

    settings: dict[str, Any] = dict(_OFFLINE)
    if trusted is not None:
        settings["trust"] = {"user_anchors": trusted.decode("ascii", "replace")}
    try:
        with c2pa.Reader(mime, io.BytesIO(content), context=_context(settings)) as reader:
            state, found = reader.get_validation_state(), json.loads(reader.json())
    except c2pa.C2paError as error:
        missing = "ManifestNotFound" in type(error).__name__ or "ManifestNotFound" in str(error)
        if missing:
            return Credentials(state=State.NONE)
        return Credentials(state=State.CHANGED, problems=(f"{type(error).__name__}",))
    manifest = found.get("manifests", {}).get(found.get("active_manifest"), {})
    said = {each["label"]: each.get("data", {}) for each in manifest.get("assertions", ())}
    problems = tuple(
        each["code"]
        for each in found.get("validation_status") or ()
        if each["code"] != "signingCredential.untrusted"
    )
    states = {"Valid": State.INTACT, "Trusted": State.TRUSTED}
    return Credentials(
        state=states.get(state, State.CHANGED),
        origin=_origin(said.get(_LABEL)),
        source_type=_source_type(said),
        signer=str(manifest.get("signature_info", {}).get("common_name", "")),
        problems=problems,
    )


def _origin(said: Any) -> Origin:
    if not isinstance(said, dict):
        return _UNKNOWN
    return Origin(**{name: str(said.get(name, "")) for name in ("model", "run", "guarantee")})


def _source_type(said: dict[str, Any]) -> str | None:
    for label in ("c2pa.actions.v2", "c2pa.actions"):
        for action in said.get(label, {}).get("actions", ()):
            if "digitalSourceType" in action:
                return str(action["digitalSourceType"]).rpartition("/")[2]
    return None


def _context(settings: dict[str, Any]) -> Any:
    import c2pa

    return c2pa.Context(settings=c2pa.Settings.from_dict(settings))
