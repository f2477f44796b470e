"""``deploy found``, ``admit``, ``sign`` and ``show``: the owner of a federation whose parties make
their own keys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from phoenix_secure.cli.meeting import (
    HostOption,
    NameOption,
    PortOption,
    SuiteName,
    SuiteOption,
    ViaOption,
)
from phoenix_secure.cli.membership import show_pending_changes
from phoenix_secure.cli.output import Format, FormatOption, console, print_json
from phoenix_secure.cli.words import heard_words, show_fingerprint, tell

__all__ = ["admit", "found", "show", "sign"]

_OwnerFolder = Annotated[Path, typer.Argument(help="The owner's folder, made by `deploy found`.")]


def found(
    folder: Annotated[Path, typer.Argument(help="New folder for the owner's keys.")],
    name: NameOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 9443,
    via: ViaOption = None,
    suite: SuiteOption = SuiteName.CLASSICAL,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Found a federation whose parties make their own keys: step 1 of 4, its owner's.

    Only the owner's key and that of the certificate authority are made here. Then: (2) every party
    runs `site init` or `server init` and sends its request; (3) the owner runs `deploy admit` and
    `deploy sign`, and sends each its welcome; (4) every party runs `site join` or `server join`.
    Requests and welcomes hold no secret. Words are read by telephone, twice for each party.
    """
    from phoenix_secure.federation.deployment.exchange_folder import parse_via
    from phoenix_secure.federation.deployment.federation_settings import federation_settings
    from phoenix_secure.federation.deployment.founding import OwnerFolder
    from phoenix_secure.federation.engines.flower_address import LOOPBACKS

    settings = federation_settings(
        federation=name or folder.resolve().name,
        host=host,
        port=port,
        folder=None if via is None else str(parse_via(via)),
        suite=suite.value,
    )
    owner = OwnerFolder.found(folder, settings)
    mark = owner.fingerprint
    if output_format is Format.JSON:
        print_json({"folder": str(folder), "words": mark.words, "fingerprint": mark.hex})
        return
    federation = settings.federation
    console.print(f"federation {federation} is founded in {folder}; your words are", soft_wrap=True)
    show_fingerprint(mark)
    keys = "" if suite is SuiteName.CLASSICAL else f" --suite {suite.value}"
    address = f"--host {settings.host} --port {settings.port}"
    for line in (
        "Read them by telephone to each party when it joins, and send them to nobody.",
        f"the server: `phoenix-secure server init FOLDER --name {federation} {address}{keys}`",
        "each site:  `phoenix-secure site init FOLDER --name NAME "
        f"--federation {federation}{keys}`",
        f"then you:   `phoenix-secure deploy admit {folder} FILE.request ...`",
        f"owner.key and ca.key in {folder} are not encrypted: keep it on an encrypted medium that "
        "only you can open",
    ):
        console.print(line, soft_wrap=True)
    if settings.folder is None and settings.host in LOOPBACKS:
        console.print(
            f"no other machine reaches {settings.host}: give --host, or --via, in a new folder",
            style="yellow",
            soft_wrap=True,
        )


def admit(
    folder: _OwnerFolder,
    requests: Annotated[
        list[Path], typer.Argument(metavar="REQUEST...", help="Files that the parties sent.")
    ],
    fingerprint: Annotated[
        list[str] | None,
        typer.Option(
            "--fingerprint",
            help="The eight words that a party read to somebody, in quotes; once for each request, "
            "in their order. For scripts; without it you are asked.",
        ),
    ] = None,
    replaces: Annotated[
        list[str] | None,
        typer.Option(
            "--replaces",
            help="Name of a party whose request takes the place of its keys; once for each.",
        ),
    ] = None,
) -> None:
    """Admit parties whose words you heard: step 3 of 4, or later.

    Each request is checked: federation, suite, size, signatures of every key in it, and that no
    admitted party has its name or one of its keys. Whose it is nobody can check but you: telephone
    the party and type the words that it reads. They are not shown here before.

    Where a roster is signed, `deploy sign` makes the next one. A party that made new keys is
    admitted with --replaces: the keys before never count again.
    """
    from phoenix_secure.errors import ConfigError
    from phoenix_secure.federation.deployment.founding import OwnerFolder
    from phoenix_secure.federation.deployment.join_request import read_request

    owner = OwnerFolder(folder)
    found = [read_request(path) for path in requests]
    if fingerprint is not None and len(fingerprint) != len(found):
        raise ConfigError(
            f"{len(found)} requests need {len(found)} times --fingerprint, in the same order; got "
            f"{len(fingerprint)}"
        )
    strangers = set(replaces or ()) - {request.party for request in found}
    if strangers:
        raise ConfigError(f"--replaces {', '.join(sorted(strangers))}: give its request, too")
    words: Sequence[str | None] = fingerprint or [None] * len(found)
    for request, given in zip(found, words, strict=True):
        is_new_key = request.party in (replaces or ())
        if owner.examine(request, replaces=is_new_key):
            console.print(f"{request.party} is admitted already")
            continue
        where = f", reached at {request.host}:{request.port}" if request.is_server else ""
        role = "the server" if request.is_server else f"site {request.party}"
        console.print(
            f"{role} of {request.federation}{where}: every key in the request signed it",
            soft_wrap=True,
        )
        if is_new_key:
            console.print(
                "the key that it replaces signed it, too: whoever asks has that key"
                if request.earlier_key
                else f"the key that it replaces did NOT sign it: ask {request.party} why",
                style=None if request.earlier_key else "yellow",
                soft_wrap=True,
            )
        heard = heard_words(request.party, given=given, option="--fingerprint")
        owner.admit(request, heard=heard, replaces=is_new_key)
        console.print(f"admitted {request.party}: {request.fingerprint.words}", soft_wrap=True)
    if owner.roster() is not None:
        show_pending_changes(owner)
        return
    parties = [request.party for request in owner.admitted()]
    console.print(
        f"admitted so far: {', '.join(parties)}; when all are, "
        f"`phoenix-secure deploy sign {folder}`",
        soft_wrap=True,
    )


def sign(
    folder: _OwnerFolder,
    days: Annotated[int, typer.Option("--days", help="Validity of the TLS certificates.")] = 365,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Sign the roster over all parties, and write a welcome for each: step 3 of 4, or later.

    A welcome is public: rosters, certificates, where to meet. Done again, it is the next roster,
    with what was admitted, suspended, resumed or revoked since; where nothing was, the roster stays
    as it is. Every party gets a new certificate each time.
    """
    from phoenix_secure.federation.deployment.fingerprints import Fingerprint
    from phoenix_secure.federation.deployment.founding import OwnerFolder

    owner = OwnerFolder(folder)
    made = owner.sign(days=days)
    roster = Fingerprint(made.roster.hash)
    if output_format is Format.JSON:
        print_json(
            {
                "sites": [site for site, _ in made.roster.members],
                "epoch": made.roster.epoch,
                "changes": [str(change) for change in made.roster.changes] if made.is_new else [],
                "words": roster.words,
                "fingerprint": roster.hex,
                "welcomes": {party: str(path) for party, path in made.welcomes.items()},
                "warning": made.warning,
            }
        )
        return
    epoch = made.roster.epoch
    if epoch > 1:
        changes = made.roster.changes if made.is_new else ()
        said = ", ".join(map(str, changes)) or "unchanged, new certificates"
        console.print(f"roster epoch {epoch}: {said}", markup=False, soft_wrap=True)
    for party, path in made.welcomes.items():
        console.print(f"send {path} to {party}", soft_wrap=True)
    console.print(
        "Each joins with it; who has not joined before types your words, which you read by "
        "telephone:",
        soft_wrap=True,
    )
    show_fingerprint(owner.fingerprint)
    console.print("The roster's words, which all parties compare with each other once they joined:")
    show_fingerprint(roster)
    if made.warning is not None:
        console.print(made.warning, style="yellow", soft_wrap=True)


def show(folder: _OwnerFolder, output_format: FormatOption = Format.TEXT) -> None:
    """The owner's words, to be read by telephone; who is admitted; the roster's words.

    Of a signed roster also its epoch, all changes so far, and those that are not signed yet.
    """
    from phoenix_secure.federation.deployment.fingerprints import Fingerprint
    from phoenix_secure.federation.deployment.founding import OwnerFolder
    from phoenix_secure.federation.deployment.held_rosters import roster_history

    owner = OwnerFolder(folder)
    settings, chain = owner.settings(), owner.rosters()
    roster = None if chain is None else chain.current
    tell(
        {
            "federation": settings.federation,
            "words": owner.fingerprint.words,
            "fingerprint": owner.fingerprint.hex,
            "admitted": [request.party for request in owner.admitted()],
            "roster": "not signed yet" if roster is None else Fingerprint(roster.hash).words,
            **({} if chain is None else roster_history(chain)),
            **({} if chain is None else {"pending": [str(each) for each in owner.pending()]}),
        },
        output_format=output_format,
    )
