"""``phoenix-secure privacy hash`` and ``overlap``: whether sites hold the same images or persons.

Owners hash under a key that only they know, and compare the hashes, not the images. Whoever has
key and hashes can test whether an image that he holds is among them, and sees how many there are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from phoenix_secure.cli.data_options import PartOption, Window
from phoenix_secure.cli.output import Format, FormatOption, console, print_json
from phoenix_secure.errors import ConfigError

__all__ = ["OVERLAP_EXIT_CODE", "hash_images", "overlap"]

OVERLAP_EXIT_CODE = 9
_HEADER = "phoenix-secure/hashes/v1 "
_PERSONS = "phoenix-secure/person-hashes/v1 "
_LINE = re.compile(r"[0-9a-f]{64}")


def hash_images(
    images: Annotated[Path, typer.Argument(help="Folder of pictures, or .npz file.")],
    key: Annotated[
        Path,
        typer.Option(
            "--key",
            help="File of 32 secret bytes that the owners share; made here where there is none.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="File of hashes, for the owners only.")],
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", min=1, help="Bring images to this size first, as training."),
    ] = None,
    channels: Annotated[
        int | None, typer.Option("--channels", min=1, max=3, help="And to so many channels.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            "--group",
            help="Hash persons in place of images: folder:1, column:NAME, array:NAME, "
            "dicom:PatientID or file, as data.group.",
        ),
    ] = None,
    part: PartOption = None,
    window: Window = None,
) -> None:
    """Keyed hashes of your images, in an order that tells nothing, to compare with other owners.

    All owners must use one key, one image size and one number of channels. With --group persons
    are compared, by identifiers that all owners must write alike. Identifiers can be guessed:
    whoever gets the key and a file can try every number there is, and learns whose images you
    have. Keep both among the owners, and delete the files when you have compared.
    """
    from phoenix_secure.data.groups import GroupRule
    from phoenix_secure.data.inspection import ReadingRules
    from phoenix_secure.data.sources import load_images
    from phoenix_secure.files import write_bytes
    from phoenix_secure.privacy.record_hashes import (
        comparison_tag,
        open_key,
        person_hashes,
        person_key,
        person_tag,
        record_hashes,
    )

    if not images.exists():
        raise ConfigError(f"nothing at {images}: give a folder of pictures or an .npz file")
    if key.is_dir():
        raise ConfigError(f"{key} is a folder: name a file with --key")
    is_new = not key.exists()
    rule = None
    if group is not None:
        GroupRule.of(group, key=bytes(32))  # refused before a key is made
        rule = GroupRule.of(group, key=person_key(open_key(key)))
    found = load_images(
        "npz" if images.suffix.lower() == ".npz" else "image-folder",
        path=str(images),
        image_size=image_size,
        channels=channels,
        cache_dir=images,
        rules=ReadingRules(part=part, window=window, group=rule),
    )
    secret = open_key(key)
    if found.groups is None:
        lines = sorted(set(record_hashes(found.images, key=secret)))
        head = _HEADER + comparison_tag(found.images, key=secret)
    else:
        lines = person_hashes(found.groups, key=secret)
        head = _PERSONS + person_tag(key=secret)
    text = "".join(f"{line}\n" for line in (head, *lines))
    write_bytes(out, text.encode(), mode=0o600)
    if is_new:
        console.print(
            f"made {key}: bring it to the other owners by hand, and never to the server",
            soft_wrap=True,
        )
    form = "x".join(str(size) for size in found.images.shape[1:])
    what = f"different images of {form}" if found.groups is None else "persons"
    console.print(f"{len(lines)} {what} in {out}", soft_wrap=True)


def overlap(
    files: Annotated[list[Path], typer.Argument(help="Files of `privacy hash`, one per site.")],
    output_format: FormatOption = Format.TEXT,
) -> int:
    """Count the images, or persons, at more than one site: parallel composition assumes none.

    Exit code 0: none; 9: some. Only equal images are found: another crop or compression is another
    image, and so is another image of the same person. Files made with --group compare persons, and
    find those whom both sites name alike.
    """
    from phoenix_secure.privacy.record_hashes import shared_records

    if len(files) < 2:
        raise ConfigError("overlap needs the files of at least two sites")
    heads, sites = zip(*(_read(file) for file in files), strict=True)
    if len(set(heads)) > 1:
        raise ConfigError(
            "these files cannot be compared: they were made with different keys, image sizes or "
            "channels, or some of images and some of persons. All owners must use one key file, "
            "--image-size and --channels, and --group or not"
        )
    of_persons = heads[0].startswith(_PERSONS)
    many = "persons" if of_persons else "images"
    shared = shared_records(sites)
    if output_format is Format.JSON:
        print_json({"shared": shared, many: [len(site) for site in sites]})
    elif shared:
        console.print(
            f"{shared} {many} are at more than one site: for them the sites' epsilons add up, and "
            "the largest epsilon of a site is not theirs. Leave them out at all sites but one",
            soft_wrap=True,
        )
    else:
        one = "person" if of_persons else "image"
        console.print(f"no {one} of {len(sites)} sites is at two of them", soft_wrap=True)
    return OVERLAP_EXIT_CODE if shared else 0


def _read(file: Path) -> tuple[str, list[str]]:
    """First line and hashes."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: make it with `privacy hash`") from error
    head = lines[0] if lines else ""
    if not head.startswith((_HEADER, _PERSONS)) or not all(
        _LINE.fullmatch(line) for line in lines[1:]
    ):
        raise ConfigError(f"{file} is no file of `privacy hash`")
    return head, lines[1:]
