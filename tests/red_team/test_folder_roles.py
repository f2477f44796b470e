"""Folders as sites have them, one file more or less: exactly one picture has another role.

Labels, copies, damaged files, any names and depths, every part that the split knows. What the site
trains on is read through its own path; the other parts, which never leave it, by the same rules.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from phoenix_secure.config import DataConfig
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.inspection import ReadingRules
from phoenix_secure.data.keyed_split import image_tags, keyed_roles
from phoenix_secure.data.own_images import keyed_members
from phoenix_secure.data.sources import load_images
from phoenix_secure.errors import ConfigError, NoImages

DAMAGED = -1  # the number of a file that is no picture
CLASSES = ("", "ape", "bee", "cat")  # "" is the folder itself
Roles = Counter[tuple[int, bytes]]  # part and pixels -> how many


@dataclass(frozen=True)
class File:
    picture: int
    folder: str
    name: str


@st.composite
def folders(draw: st.DrawFn) -> list[File]:
    """One to twelve files, of six pictures: most folders hold copies, also in other classes."""
    is_labelled = draw(st.booleans())
    names = draw(st.lists(st.text("abz09", min_size=1, max_size=4), min_size=1, unique=True))
    return [
        File(
            picture=draw(st.integers(DAMAGED, 5)),
            folder=draw(st.sampled_from(CLASSES[1:] if is_labelled else CLASSES[:1])),
            name=name + draw(st.sampled_from((".png", ".PNG", ".bmp"))),
        )
        for name in names[:12]
    ]


def write(files: list[File], root: Path) -> None:
    labelled = any(file.folder for file in files)
    for name in CLASSES[1:] if labelled else ():
        (root / name).mkdir()  # folders are classes, and public, whether anything is in them
    for file in files:
        path = root / file.folder / file.name
        if file.picture == DAMAGED:
            path.write_bytes(b"\x89PNG")
        else:
            Image.fromarray(load_digits().images[file.picture, 0]).save(path)


def plan(held_out: float, reference: float, fraction: float) -> DataConfig:
    return DataConfig(
        name="image-folder",
        path="its-own",
        image_size=8,
        channels=1,
        held_out=held_out,
        reference=reference,
        fraction=fraction,
        split="keyed",
    )


def roles_of(files: list[File], *, of: DataConfig, key: bytes) -> tuple[Roles, list[bytes]]:
    """How many pictures of each kind have each role; the members in the order of training."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write(files, root)
        own = keyed_members("image-folder", name, plan=of, key=key, cache_dir=root)
        try:
            every = load_images(
                "image-folder",
                path=name,
                image_size=8,
                channels=1,
                cache_dir=root,
                rules=ReadingRules(each_alone=True),
            )
        except NoImages:
            assert len(own.images) == 0
            return Counter(), []
    tags = image_tags(every.images, key=key)
    roles = keyed_roles(tags, held_out=of.held_out, reference=of.reference, fraction=of.fraction)
    found = Counter(
        (int(role), image.tobytes()) for role, image in zip(roles, every.images, strict=True)
    )
    assert sum(count for (role, _), count in found.items() if role == 0) == len(own.images)
    return found, [image.tobytes() for image in own.images]


def differ_by_one(longer: list[bytes], shorter: list[bytes]) -> bool:
    return len(longer) == len(shorter) + 1 and any(
        longer[:i] + longer[i + 1 :] == shorter for i in range(len(longer))
    )


@pytest.mark.long
@settings(deadline=None, max_examples=15)
@given(
    folders(),
    st.data(),
    st.binary(min_size=32, max_size=32),
    st.sampled_from([(0.1, 0.1, 1.0), (0.3, 0.3, 1.0), (0.2, 0.1, 0.5), (0.0, 0.0, 1.0)]),
)
def test_one_file_more_gives_one_picture_a_role_and_no_other_a_new_one(
    files: list[File], data: st.DataObject, key: bytes, parts: tuple[float, float, float]
) -> None:
    of = plan(*parts)
    gone = data.draw(st.sampled_from(files))
    rest = [
        File(picture=file.picture, folder=file.folder, name=f"x{file.name}")
        for file in files
        if file is not gone
    ]
    (before, members), (after, fewer) = (roles_of(each, of=of, key=key) for each in (files, rest))
    if gone.picture == DAMAGED:
        assert (before, members) == (after, fewer)
        return
    assert sum((before - after).values()) == 1
    assert not after - before
    ((role, pixels),) = before - after
    assert pixels == load_digits().images[gone.picture].tobytes()
    # Only a member changes what is trained on, and then by itself alone, in one place.
    assert differ_by_one(members, fewer) if role == 0 else members == fewer
    # Every copy has the role of the others, so that none is held out of which one is trained on.
    kinds = {pixels for _, pixels in before}
    assert len(before) == len(kinds)


@settings(deadline=None, max_examples=10)
@given(folders(), st.integers(1, 12))
def test_a_limit_that_counts_images_is_refused_for_every_folder(
    files: list[File], limit: int
) -> None:
    """Whichever it kept, one more picture would push another out: ``data.fraction`` does not."""
    with tempfile.TemporaryDirectory() as name:
        write(files, Path(name))
        with pytest.raises(ConfigError, match=r"data\.fraction"):
            load_images(
                "image-folder",
                path=name,
                image_size=8,
                channels=1,
                max_images=limit,
                cache_dir=Path(name),
                rules=ReadingRules(each_alone=True),
            )
