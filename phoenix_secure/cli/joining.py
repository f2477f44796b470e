"""``init`` and ``join`` of ``site`` and ``server``: keys are made where they live."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phoenix_secure.cli.meeting import PortOption, SuiteName, SuiteOption
from phoenix_secure.cli.output import Format, FormatOption, console, print_json
from phoenix_secure.cli.words import heard_words, show_fingerprint, tell

if TYPE_CHECKING:
    from phoenix_secure.federation.deployment.join_request import JoinRequest
    from phoenix_secure.federation.deployment.joining import Joining

__all__ = ["server_init", "server_join", "show_pending", "site_init", "site_join"]

_NewFolder = Annotated[Path, typer.Argument(help="New folder for the keys.")]
_KeyFolder = Annotated[Path, typer.Argument(help="The folder that `init` made.")]
_WelcomeFile = Annotated[Path, typer.Argument(help="The file that the federation's owner sent.")]
_OwnerOption = Annotated[
    str | None,
    typer.Option(
        "--owner",
        help="The eight words that the federation's owner read to somebody, in quotes. For "
        "scripts; without it you are asked.",
    ),
]


def site_init(
    folder: _NewFolder,
    name: Annotated[str, typer.Option("--name", help="This site's name in the federation.")],
    federation: Annotated[
        str, typer.Option("--federation", help="The federation's name, as its owner says it.")
    ],
    suite: SuiteOption = SuiteName.CLASSICAL,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Make this site's keys, here, and a request to join: step 2 of 4.

    No key ever leaves the folder. Send NAME.request to the federation's owner by any way, and read
    the words to the owner by telephone. Then `site join` with the welcome that comes back.
    """
    from phoenix_secure.federation.deployment.joining import prepare_site

    request = prepare_site(folder, name=name, federation=federation, suite=suite.value)
    _show_request(folder, request, command="site", output_format=output_format)


def server_init(
    folder: _NewFolder,
    federation: Annotated[
        str,
        typer.Option("--name", "--federation", help="The federation's name, as its owner says it."),
    ],
    host: Annotated[
        str, typer.Option("--host", help="Name or address under which sites reach this server.")
    ] = "127.0.0.1",
    port: PortOption = 9443,
    suite: SuiteOption = SuiteName.CLASSICAL,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Make the server's keys, here, and a request to join: step 2 of 4.

    No key ever leaves the folder. Send server.request to the federation's owner by any way, and
    read the words to the owner by telephone. Then `server join` with the welcome that comes back.
    """
    from phoenix_secure.federation.deployment.joining import prepare_server

    request = prepare_server(folder, federation=federation, host=host, port=port, suite=suite.value)
    _show_request(folder, request, command="server", output_format=output_format)


def site_join(
    folder: _KeyFolder,
    welcome: _WelcomeFile,
    owner: _OwnerOption = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Join with the owner's welcome, and the owner's words: step 4 of 4, or later.

    Checked before anything is written: the roster holds this site's own key under its name, the
    certificate is for its own key and chains to the authority, one owner signed all of it. Whose
    key that is you hear: telephone the owner and type the words that it reads.

    A party that has joined takes the next roster, or a new certificate, in the same way. Words are
    not asked for then: the owner's key is known, and what it signs must go on from the roster here.
    """
    from phoenix_secure.federation.deployment.joining import Joining

    if _renewed(folder, welcome, as_server=False, output_format=output_format):
        return
    joining = Joining.open(folder, welcome, as_server=False)
    if not _join(joining, owner, output_format=output_format):
        return
    console.print(
        f"next: set data and policy in {folder}/site.yaml; move approver.key to whoever owns the "
        f"images; `phoenix-secure doctor --federation {folder}`; `phoenix-secure site start "
        f"{folder}`",
        soft_wrap=True,
    )


def server_join(
    folder: _KeyFolder,
    welcome: _WelcomeFile,
    owner: _OwnerOption = None,
    superlink_port: Annotated[
        int | None,
        typer.Option("--superlink-port", min=1, help="Loopback port on the server; default: 9093."),
    ] = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Join with the owner's welcome, and the owner's words: step 4 of 4, or later.

    Checked before anything is written: the roster holds this server's own key, the certificate is
    for its own key and host and chains to the authority, one owner signed all of it. Whose key that
    is you hear: telephone the owner and type the words that it reads.

    A party that has joined takes the next roster, or a new certificate, in the same way. Words are
    not asked for then: the owner's key is known, and what it signs must go on from the roster here.
    """
    from phoenix_secure.federation.deployment.joining import Joining

    if _renewed(folder, welcome, as_server=True, output_format=output_format):
        return
    joining = Joining.open(folder, welcome, as_server=True, superlink_port=superlink_port)
    if not _join(joining, owner, output_format=output_format):
        return
    start = (
        f"`phoenix-secure server start {folder}`, then "
        if joining.deployment.folder is None
        else ""
    )
    console.print(
        f"next: {start}`phoenix-secure doctor --federation {folder}` and `phoenix-secure run ... "
        f"--federation {folder}`",
        soft_wrap=True,
    )


def show_pending(folder: Path, *, output_format: Format) -> bool:
    """Show the request of a party that has not joined yet; False for one that has."""
    from phoenix_secure.federation.deployment.joining import pending_request

    request = pending_request(folder)
    if request is None:
        return False
    facts = {
        "party": request.party,
        "federation": request.federation,
        "joined": "not yet: send the request to the federation's owner, and read it the words",
        "request": str(folder / request.file_name),
        "words": request.fingerprint.words,
        "fingerprint": request.fingerprint.hex,
    }
    tell(facts, output_format=output_format)
    return True


def _show_request(
    folder: Path, request: JoinRequest, *, command: str, output_format: Format
) -> None:
    path, mark = folder / request.file_name, request.fingerprint
    if output_format is Format.JSON:
        print_json({"request": str(path), "words": mark.words, "fingerprint": mark.hex})
        return
    console.print(f"keys of {request.party} are in {folder}, and stay there")
    console.print(
        f"send {path} to the owner of {request.federation}; it holds no secret. Its words are",
        soft_wrap=True,
    )
    show_fingerprint(mark)
    console.print(
        "Read them to the owner by telephone, and do not send them along: whoever could exchange "
        "the file could exchange them, too",
        soft_wrap=True,
    )
    console.print(f"then: `phoenix-secure {command} join {folder} {request.party}.welcome`")


def _renewed(folder: Path, welcome: Path, *, as_server: bool, output_format: Format) -> bool:
    """Take the next roster, or a new certificate, where ``folder`` has joined already."""
    from phoenix_secure.federation.deployment.fingerprints import Fingerprint
    from phoenix_secure.federation.deployment.renewing import Renewal, has_joined

    if not has_joined(folder):
        return False
    renewal = Renewal.open(folder, welcome, as_server=as_server)
    renewal.complete()
    roster = renewal.rosters.current
    mark = Fingerprint(roster.hash)
    new = {each.epoch: [str(change) for change in each.changes] for each in renewal.new}
    if output_format is Format.JSON:
        facts = {
            "folder": str(folder),
            "epoch": roster.epoch,
            "changes": new,
            "new_keys": renewal.has_new_keys,
        }
        print_json({**facts, "words": mark.words, "fingerprint": mark.hex})
        return True
    for epoch, changes in new.items():
        line = f"roster epoch {epoch}: {', '.join(changes)}"
        console.print(line, markup=False, soft_wrap=True)
    if not new:
        console.print(f"the roster is that of before, epoch {roster.epoch}")
    if renewal.has_new_keys:
        console.print(
            "This site's new keys are in place, and the old ones are deleted: start the site again"
        )
    console.print(
        "The certificate is the new one. The roster's words, the same at every party, are"
    )
    show_fingerprint(mark)
    console.print(
        "Who is new or has new keys: compare the words with another site by telephone. A program "
        "that runs takes the roster by itself, and the certificate when it is started again",
        soft_wrap=True,
    )
    return True


def _join(joining: Joining, owner: str | None, *, output_format: Format) -> bool:
    """Ask for the owner's words and join; whether to say what is next, for people."""
    request, roster = joining.request, joining.roster
    sites = [site for site, _ in roster.members]
    if output_format is Format.TEXT:
        console.print(
            f"{request.federation} with {len(sites)} sites ({', '.join(sites)}): the welcome fits "
            f"the keys of {request.party}",
            soft_wrap=True,
        )
    heard = heard_words("the federation's owner", given=owner, option="--owner")
    mark = joining.complete(heard=heard)
    if output_format is Format.JSON:
        print_json(
            {
                "folder": str(joining.folder),
                "sites": sites,
                "words": mark.words,
                "fingerprint": mark.hex,
                "warning": joining.deployment.warning,
            }
        )
        return False
    console.print(f"{request.party} has joined. The roster's words, the same at every party, are")
    show_fingerprint(mark)
    console.print(
        "Compare them with another site by telephone: an owner could sign one roster for each",
        soft_wrap=True,
    )
    if joining.deployment.warning is not None:
        console.print(joining.deployment.warning, style="yellow", soft_wrap=True)
    return True
