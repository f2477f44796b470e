"""The images of a deployed site under one plan: what it trains on, and what it holds out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from phoenix_secure.config import RunConfig
from phoenix_secure.config.images import OWN_DATA
from phoenix_secure.data.class_order import in_class_order
from phoenix_secure.data.keyed_split import open_split_key
from phoenix_secure.data.own_class_names import check_own_classes, in_words_of_plan
from phoenix_secure.data.own_images import in_public_classes, keyed_parts
from phoenix_secure.data.partition import DataPartition, partition_images
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.data.sources import load_images, rules_of
from phoenix_secure.data.split import make_split
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.deployment.site_settings import SiteSettings
from phoenix_secure.rng import SeedTree

__all__ = ["site_parts"]


def site_parts(
    settings: SiteSettings,
    config: RunConfig,
    seeds: SeedTree,
    *,
    stream: str,
    folder: SiteFolder,
    cache_dir: Path,
) -> tuple[SiteImages, SiteImages]:
    """Members and held-out images of this site, at the plan's size.

    Raises:     ConfigError or DataError when the plan cannot run on this site's images.
    """
    if settings.data.source == "share-of-plan":
        if config.data.name in OWN_DATA:
            # Else a plan could name any folder of this machine.
            raise ConfigError("data.source share-of-plan is for public data sets only")
        dealt = partition_images(config, seeds=seeds, cache_dir=cache_dir)
        own, public = dealt.image_set.class_names, config.release.class_names
        held_out = SiteImages.of(
            dealt.image_set.take(_share_of_held_out(dealt, stream, seeds=seeds))
        )
        return (
            in_public_classes(dealt.site_images(stream), own=own, public=public),
            in_public_classes(held_out, own=own, public=public),
        )
    if config.data.split == "keyed":
        return keyed_parts(
            settings.data.name,
            settings.data.path,
            plan=config.data,
            key=open_split_key(folder.split_key),
            cache_dir=cache_dir,
            class_names=config.release.class_names,
            own_group=settings.data.group,
            own_classes=settings.data.classes,
        )
    check_own_classes(settings.data.classes, public=config.data.class_names)
    group = settings.data.group or config.data.group
    image_set = load_images(
        settings.data.name,
        path=settings.data.path,
        image_size=config.data.image_size,
        channels=config.data.channels,
        cache_dir=cache_dir,
        rules=rules_of(
            config.data.model_copy(update={"group": group}),
            cache_dir=cache_dir,
            group_key=open_split_key(folder.split_key) if group else None,
        ),
    )
    image_set = in_words_of_plan(image_set, settings.data.classes)
    image_set = in_class_order(image_set, config.data.class_names)
    split = make_split(
        image_set.labels,
        image_set.num_images,
        groups=image_set.groups,
        held_out=config.data.held_out,
        reference=config.data.reference,
        rng=seeds.child("site", stream, "split").numpy(),
        dataset_digest=image_set.digest(),
        seed=config.seed,
    )
    return (
        SiteImages.of(image_set.take(split.members)),
        SiteImages.of(image_set.take(split.held_out)),
    )


def _share_of_held_out(dealt: DataPartition, stream: str, *, seeds: SeedTree) -> np.ndarray:
    """Held-out images of a public data set that stand beside the members of one site.

    Each goes to a site with the chance that a member of its class is there: a site's held-out
    images are then of its classes, and each is at one site alone. Indices into the image set.
    """
    held_out, names = dealt.split.held_out, list(dealt.parts)
    labels = dealt.image_set.labels
    if labels is None:
        labels = np.zeros(dealt.image_set.num_images, np.int64)
    counts = np.stack(
        [np.bincount(labels[part], minlength=labels.max() + 1) for part in dealt.parts.values()]
    )
    drawn = seeds.child("audit", "held-out").numpy().random(len(held_out))
    totals = np.maximum(counts.sum(axis=0), 1)
    upto = np.cumsum(counts / totals, axis=0)[:, labels[held_out]]
    own: np.ndarray = held_out[(drawn >= upto).sum(axis=0) == names.index(stream)]
    return own
