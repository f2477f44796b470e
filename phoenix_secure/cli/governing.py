"""``site publish``, ``review`` and ``reject``: the owner's side of proposals through PySyft.

PySyft is imported only by commands of a site that says ``approver: syft``.
"""

from __future__ import annotations

import enum
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phoenix_secure.cli.output import Format, FormatOption, console, print_json

if TYPE_CHECKING:
    from phoenix_secure.federation.deployment.site_folder import SiteFolder
    from phoenix_secure.governance.desk import ReviewDesk

__all__ = [
    "FolderArgument",
    "confirm",
    "need_address",
    "need_pysyft",
    "open_desk",
    "publish",
    "reject",
    "review",
    "show_facts",
    "uses_pysyft",
]

FolderArgument = Annotated[Path, typer.Argument(help="The site's folder, with site.yaml in it.")]


class Mock(enum.StrEnum):
    """The images that stand in for the private ones."""

    NOISE = "noise"
    PUBLIC = "public"


def need_pysyft() -> None:
    """Refuse where the extra is not installed.

    Raises:     ConfigError with the command that installs it.
    """
    from phoenix_secure.errors import ConfigError

    for package in ("syft_job", "syft_datasets"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                "PySyft is not installed: pip install 'phoenix-secure[governance]' -c "
                "constraints.txt, or set approver: file"
            )


def need_address(text: str) -> str:
    """``text``, if it can be an address in PySyft.

    Raises:     ConfigError.
    """
    from phoenix_secure.errors import ConfigError
    from phoenix_secure.federation.deployment.site_settings import ADDRESS

    if re.fullmatch(ADDRESS, text) is None:
        raise ConfigError(f"{text!r} is no e-mail address as PySyft has them: NAME@DOMAIN")
    return text


def uses_pysyft(place: SiteFolder) -> bool:
    """Whether the site's settings say ``approver: syft``."""
    return place.settings().approver == "syft"


def open_desk(place: SiteFolder) -> ReviewDesk:
    """The owner's desk of a site.

    Raises:     ConfigError where PySyft or ``approver: syft`` is missing.
    """
    need_pysyft()
    from phoenix_secure.governance.desk import ReviewDesk

    return ReviewDesk(place)


def review(
    folder: FolderArgument,
    proposal: Annotated[
        str | None, typer.Argument(help="Its name or plan hash, or a prefix; default: all.")
    ] = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Show what was proposed: what would run, what protects it, and the objections.

    What is shown is written down; `site approve` signs exactly that and nothing else.
    """
    from phoenix_secure.federation.deployment.site_folder import SiteFolder

    desk = open_desk(SiteFolder(folder))
    reviews = desk.reviews() if proposal is None else [desk.find(proposal)]
    approver = desk.approver()
    shown = []
    for each in reviews:
        facts = each.facts()
        if each.proposal is not None:
            facts["decision"] = approver.decide(each.proposal.plan.hash).why
        desk.keep(each)
        shown.append(facts)
    if output_format is Format.JSON:
        print_json(shown)
        return
    if not shown:
        console.print(f"nothing was proposed by {desk.coordinator}", soft_wrap=True)
    for facts in shown:
        show_facts(str(facts["proposal"]), facts)


def reject(
    folder: FolderArgument,
    proposal: Annotated[str, typer.Argument(help="Its name or plan hash, or a prefix.")],
    reason: Annotated[
        str,
        typer.Option("--reason", help="Why, in one line; with PySyft the coordinator reads it."),
    ],
) -> None:
    """Refuse a plan, or withdraw the approval of one at once.

    It needs no key: whoever runs the site can always stop. The audit log keeps the reason.
    """
    from phoenix_secure.federation.deployment.site_folder import SiteFolder

    place = SiteFolder(folder)
    if not uses_pysyft(place):
        plan = place.find_plan(proposal)
        place.reject(plan, reason=reason)
        console.print(f"rejected: {plan}", soft_wrap=True)
        return
    desk = open_desk(place)
    found = desk.find(proposal)
    desk.reject(found, reason=reason)
    console.print(f"rejected: {found.job.name}", soft_wrap=True)


def publish(
    folder: FolderArgument,
    image_size: Annotated[
        int, typer.Option("--image-size", help="Pixels of one side that plans should use.")
    ],
    channels: Annotated[int, typer.Option("--channels", help="1 (grey) or 3 (colour).")],
    mock: Annotated[
        Mock, typer.Option("--mock", help="noise, or images of a public data set.")
    ] = Mock.NOISE,
    name: Annotated[str, typer.Option("--name", help="Name of the data set.")] = "images",
) -> None:
    """Publish mock data of your images' form, and open the inbox to the coordinator.

    No private file is read: the form is what you state here.
    """
    from phoenix_secure.data.cache import default_cache_dir
    from phoenix_secure.federation.deployment.site_folder import SiteFolder
    from phoenix_secure.rng import SeedTree

    place = SiteFolder(folder)
    desk = open_desk(place)
    from phoenix_secure.governance.mock_data import MockKind, mock_images, publish_mock

    kind = MockKind(mock.value)
    images = mock_images(
        kind,
        image_size=image_size,
        channels=channels,
        rng=SeedTree(0).child("mock", name).numpy(),
        cache_dir=default_cache_dir(),
    )
    path = publish_mock(
        desk.root,
        owner=desk.owner,
        coordinator=desk.coordinator,
        name=name,
        kind=kind,
        images=images,
    )
    desk.box.open_inbox()
    place.audit().record("mock data published", name=name, kind=kind.value, count=len(images))
    console.print(f"{len(images)} mock images: {path}", markup=False, soft_wrap=True)


def show_facts(title: str, facts: dict[str, Any]) -> None:
    """A plan as every owner reads it, whichever way it came."""
    from phoenix_secure.federation.site.plan_sheet import lines_of

    # As it is: no mark-up, no emoji, no folding of what is about to be signed.
    for line in (f"== {title} ==", *lines_of(facts)):
        typer.echo(line)


def confirm(question: str) -> None:
    """Ask the owner; anything but yes signs nothing.

    Raises:     ConfigError, also where nobody can be asked.
    """
    from phoenix_secure.errors import ConfigError

    try:
        if typer.confirm(question):
            return
    except typer.Abort as error:
        raise ConfigError(
            "nothing was signed: nobody answered; a script that has read the plan signs it with "
            "--yes and the plan's whole hash"
        ) from error
    raise ConfigError("nothing was signed")
