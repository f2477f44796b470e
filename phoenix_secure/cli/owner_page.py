"""``phoenix-secure site ui``: the owner's page, in a browser on this machine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from phoenix_secure.cli.governing import FolderArgument, open_desk, uses_pysyft

if TYPE_CHECKING:
    import socket
    import threading

    from phoenix_secure.governance.owner_page.page import OwnerPage

__all__ = ["ui"]

_CHECK_S = 0.2


def ui(
    folder: FolderArgument,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="Port; 0: any free one.")
    ] = 0,
    address: Annotated[
        str, typer.Option("--address", help="127.0.0.1 or ::1; nothing else.")
    ] = "127.0.0.1",
) -> None:
    """Show plans, budget, round and log in a browser on this machine, until Ctrl-C.

    The link that is printed opens the page once, in one browser. The page is for reading: plans are
    approved and rejected with `site approve` and `site reject`, which it spells out.
    """
    from phoenix_secure.cli.service import say, stop_event
    from phoenix_secure.federation.deployment.site_folder import SiteFolder
    from phoenix_secure.governance.owner_page.listener import listen
    from phoenix_secure.governance.owner_page.page import OwnerPage
    from phoenix_secure.governance.owner_page.site_state import SiteState

    place = SiteFolder(folder)
    if uses_pysyft(place):
        open_desk(place)
    # What cannot be shown is refused here and not in the browser, which does not wait for torch.
    state = SiteState(place)
    state.plans()
    state.budget.rows()
    where, authority = listen(address, port)
    with where:
        page = OwnerPage(place, authority=authority, say=say)
        say(
            "open this link in a browser on this machine; it works once, and lets in whoever has it"
        )
        typer.echo(f"\n    {page.link}\n")
        say("Ctrl-C ends the page")
        asyncio.run(_serve(page, where, stop_event()))
    say("stopped")


async def _serve(page: OwnerPage, where: socket.socket, stop: threading.Event) -> None:
    from phoenix_secure.governance.owner_page.listener import serving

    async with serving(where, page.answer):
        while not stop.is_set():
            await asyncio.sleep(_CHECK_S)
