"""``phoenix-secure site renew``: new keys in the folder of a site that has joined."""

from __future__ import annotations

from pathlib import Path

from phoenix_secure.cli.governing import FolderArgument
from phoenix_secure.cli.output import Format, FormatOption, console, print_json
from phoenix_secure.cli.words import show_fingerprint

__all__ = ["pending_renewal", "renew"]


def renew(folder: FolderArgument, output_format: FormatOption = Format.TEXT) -> None:
    """Make new keys beside this site's old ones, and a request to have them admitted.

    The old ones serve on until `site join` takes a welcome that names the new ones; then they are
    deleted. Privacy ledger, promises, log, approvals and settings stay. The approval key is not
    among the keys that are renewed. Done again, it shows the same request.
    """
    from phoenix_secure.federation.deployment.key_renewal import prepare_renewal

    request = prepare_renewal(folder)
    path, mark = folder / "next" / request.file_name, request.fingerprint
    party, has_proof = request.party, bool(request.earlier_key)
    if output_format is Format.JSON:
        facts = {"request": str(path), "words": mark.words, "fingerprint": mark.hex}
        print_json({**facts, "signed_by_earlier_key": has_proof})
        return
    console.print(
        f"new keys of {party} are in {folder / 'next'}, and stay there; the key of before "
        + ("signed the request, too" if has_proof else "is missing, and signed nothing"),
        soft_wrap=True,
    )
    console.print(
        f"send {path} to the owner of {request.federation}; it holds no secret. Its words are",
        soft_wrap=True,
    )
    show_fingerprint(mark)
    console.print("Read them to the owner by telephone, and do not send them along", soft_wrap=True)
    console.print(
        f"the owner: `phoenix-secure deploy admit CHEST {request.file_name} --replaces {party}`, "
        "`deploy sign CHEST`",
        soft_wrap=True,
    )
    console.print(
        f"then: `phoenix-secure site join {folder} {party}.welcome`, and start the site again",
        soft_wrap=True,
    )


def pending_renewal(folder: Path) -> dict[str, str]:
    """The words of a renewal that is under way, for ``site show``."""
    from phoenix_secure.federation.deployment.key_renewal import renewal_request

    request = renewal_request(folder)
    return {} if request is None else {"new keys": request.fingerprint.words}
