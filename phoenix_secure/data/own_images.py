"""The images of a real site: its own folder, read and split so that no image moves another."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import numpy as np

from phoenix_secure.config import DataConfig
from phoenix_secure.data.class_order import in_class_order
from phoenix_secure.data.groups import GroupRule
from phoenix_secure.data.inspection import ReadingRules
from phoenix_secure.data.keyed_split import keyed_roles, set_order, set_tags
from phoenix_secure.data.own_class_names import OwnClasses, check_own_classes, in_words_of_plan
from phoenix_secure.data.percentiles import as_window
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.data.sources import load_images, slices_of
from phoenix_secure.data.split import HELD_OUT, MEMBER
from phoenix_secure.errors import ConfigError, NoImages

__all__ = ["in_public_classes", "keyed_members", "keyed_parts"]

_NO_CLASSES: OwnClasses = MappingProxyType({})


def keyed_members(
    name: str,
    path: str | None,
    *,
    plan: DataConfig,
    key: bytes,
    cache_dir: Path,
    class_names: tuple[str, ...] = (),
    own_group: str | None = None,
    own_classes: OwnClasses = _NO_CLASSES,
) -> SiteImages:
    """The first part of ``keyed_parts``."""
    members, _ = keyed_parts(
        name,
        path,
        plan=plan,
        key=key,
        cache_dir=cache_dir,
        class_names=class_names,
        own_group=own_group,
        own_classes=own_classes,
    )
    return members


def keyed_parts(
    name: str,
    path: str | None,
    *,
    plan: DataConfig,
    key: bytes,
    cache_dir: Path,
    class_names: tuple[str, ...] = (),
    own_group: str | None = None,
    own_classes: OwnClasses = _NO_CLASSES,
) -> tuple[SiteImages, SiteImages]:
    """Members and held-out images of a site, at the plan's form, in the order of their tags.

    name, path    of the site's own data
    plan          states image_size, channels, held_out, reference and fraction: public constants
    key           the site's own (``keyed_split.open_split_key``)
    class_names   of the plan: labels count in them then, -1 for any other class of the site's own
    own_classes   this site's names of the plan's classes, where they differ
    own_group     where this site's data says whose image it is, in place of the plan's data.group

    Guarantee:  one image more or less in the folder changes one entry of one part, or none. None
                left is an answer like any other. Where ``groups`` are set, one person more or less
                changes that person's entries, or none.
    Raises:     ConfigError for a plan that states no form; DataError for a folder that is missing
                or of a kind that is not read (never for one of its images).
    """
    if plan.image_size is None or plan.channels is None:
        raise ConfigError("the plan must state data.image_size and data.channels")
    check_own_classes(own_classes, public=class_names or plan.class_names)
    group = own_group or plan.group
    try:
        found = load_images(
            name,
            path=path,
            image_size=plan.image_size,
            channels=plan.channels,
            cache_dir=cache_dir,
            rules=ReadingRules(
                part=plan.part,
                window=as_window(plan.window),
                slices=slices_of(plan),
                group=None if group is None else GroupRule.of(group, key=key),
                strict=plan.strict,
                each_alone=True,
            ),
        )
        found = in_words_of_plan(found, own_classes, each_alone=True)
        found = in_class_order(found, plan.class_names, each_alone=True)
    except NoImages:
        form = (0, plan.channels, plan.image_size, plan.image_size)
        groups = None if group is None else np.empty(0, np.int64)
        nothing = SiteImages(images=np.empty(form, np.uint8), labels=None, groups=groups)
        return nothing, nothing
    tags = set_tags(found, key=key)
    roles = keyed_roles(
        tags, held_out=plan.held_out, reference=plan.reference, fraction=plan.fraction
    )
    order = set_order(found, key=key)

    def part(role: int) -> SiteImages:
        return in_public_classes(
            SiteImages.of(found).take(order[roles[order] == role]),
            own=found.class_names,
            public=class_names,
        )

    return part(MEMBER), part(HELD_OUT)


def in_public_classes(
    site: SiteImages, *, own: tuple[str, ...], public: tuple[str, ...]
) -> SiteImages:
    """``site`` with labels that count in the ``public`` classes, by name; -1 for any other class.

    Which classes a site happens to hold then moves no label. Without public classes, or labels,
    nothing changes.
    """
    if not public or site.labels is None:
        return site
    places = {name: place for place, name in enumerate(public)}
    table = np.array([places.get(name, -1) for name in own], np.int64)
    return SiteImages(images=site.images, labels=table[site.labels], groups=site.groups)
