"""The data partition of a simulation: load, split, assign, and check before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phoenix_secure.config import PartitionConfig, RunConfig
from phoenix_secure.data import partition_schemes as schemes
from phoenix_secure.data.canaries import PlantedCanaries, plant_canaries
from phoenix_secure.data.groups import majority, of_their_own
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.inventory import save_inventory
from phoenix_secure.data.keyed_split import (
    keyed_split,
    seeded_split_key,
    set_tags,
    site_of_tag,
)
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.data.sources import load_run_images
from phoenix_secure.data.split import Split, make_split
from phoenix_secure.errors import ConfigError, DataError
from phoenix_secure.extensions import ExtensionPoint, extension, extension_names
from phoenix_secure.files import replace_file
from phoenix_secure.rng import SeedTree

__all__ = ["DataPartition", "deal", "partition_images", "save_parts", "site_names"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataPartition:
    """All images of a run and where each one is."""

    image_set: ImageSet
    split: Split
    parts: dict[str, np.ndarray]  # site -> indices into image_set, members only
    canaries: PlantedCanaries | None = None  # planted for an audit, beside the parts

    def site_images(self, site: str) -> SiteImages:
        """The training images of one site."""
        part = self.image_set.take(self.parts[site])
        images, labels, groups = part.images, part.labels, part.groups
        if self.canaries is not None:
            planted = self.canaries.of_site(list(self.parts).index(site))
            images = np.concatenate([images, self.canaries.images[planted]])
            if labels is not None:
                labels = np.concatenate([labels, self.canaries.labels[planted]])
            if groups is not None:
                groups = np.concatenate([groups, of_their_own(len(planted), beside=groups)])
        return SiteImages(images=images, labels=labels, groups=groups)


def site_names(num_sites: int) -> tuple[str, ...]:
    """``site-01``, ``site-02``, ...: padded, so that text order is number order."""
    width = max(2, len(str(num_sites)))
    return tuple(f"site-{number:0{width}d}" for number in range(1, num_sites + 1))


def partition_images(config: RunConfig, *, seeds: SeedTree, cache_dir: Path) -> DataPartition:
    """Load the data set, keep held-out and reference images back, deal the rest to the sites.

    Guarantee:  exact for a seed; parts are disjoint and cover the members. With ``data.split``
                keyed and ``partition.scheme`` iid, one image more or less in the set changes one
                entry of one part. Every other scheme looks at all images: what holds then, holds
                for a fixed partition.
    Raises:     DataError or ConfigError naming the setting.
    """
    config = config.with_split()
    image_set = load_run_images(config.data, seed=config.seed, cache_dir=cache_dir)
    if image_set.labels is None:
        _require_no_labels(config, name=image_set.name)
    split = _split(config, image_set, seeds=seeds)
    if config.partition.num_sites > len(split.members):
        raise DataError(
            f"partition.num_sites = {config.partition.num_sites} exceeds the "
            f"{len(split.members)} training images: lower it"
        )
    names = site_names(config.partition.num_sites)
    dealt = _dealt(config, image_set, split, seeds=seeds)
    parts = dict(zip(names, dealt, strict=True))
    for name, part in parts.items():
        if len(part) == 0:
            raise DataError(
                f"{name} would hold no image: raise partition.alpha or "
                "partition.min_images_per_site, lower partition.num_sites, or use more images"
            )
    canaries = None
    if config.audit.canaries:
        canaries = plant_canaries(
            config.audit.canaries,
            shape=(image_set.channels, image_set.image_size, image_set.image_size),
            num_sites=len(names),
            num_classes=image_set.num_classes,
            seeds=seeds,
        )
    return DataPartition(image_set=image_set, split=split, parts=parts, canaries=canaries)


def _require_no_labels(config: RunConfig, *, name: str) -> None:
    """Refuse, all at once, the settings that unlabelled images cannot follow.

    Raises:     ConfigError with the values that can.
    """
    scheme, release = config.partition.scheme, config.release
    needed = {}
    if scheme in ("dirichlet", "shards"):
        needed[f"partition.scheme={scheme}"] = "partition.scheme=iid"
    if release.is_on and release.classes == "labels":
        needed["release.classes=labels"] = "release.classes=none"
    if config.model.class_conditional and not config.makes_generator:
        needed["model.class_conditional=true"] = "model.class_conditional=false"
    if needed:
        raise ConfigError(
            f"{name} has no labels, and {' and '.join(needed)} need labelled images: set "
            f"{' '.join(needed.values())}, or put the pictures of each class in a folder of its own"
        )


def save_parts(partition: DataPartition, path: Path) -> None:
    """Which site holds each image: (N,) int32, -1 for images that no site holds.

    Beside it, ``inventory.json``: what was read and what was not.
    """
    if partition.image_set.inventory is not None:
        save_inventory(partition.image_set.inventory, path.with_name("inventory.json"))
    owner = np.full(partition.image_set.num_images, -1, np.int32)
    for number, part in enumerate(partition.parts.values()):
        owner[part] = number
    names = np.array(list(partition.parts))

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, owner=owner, sites=names)

    replace_file(path, write)


def _split(config: RunConfig, image_set: ImageSet, *, seeds: SeedTree) -> Split:
    data = config.data
    if data.split == "keyed":
        return keyed_split(
            image_set,
            key=seeded_split_key(seeds),
            held_out=data.held_out,
            reference=data.reference,
            fraction=data.fraction,
            seed=config.seed,
        )
    return make_split(
        image_set.labels,
        image_set.num_images,
        held_out=data.held_out,
        reference=data.reference,
        rng=seeds.child("split").numpy(),
        dataset_digest=image_set.digest(),
        seed=config.seed,
        groups=image_set.groups,
    )


def _dealt(
    config: RunConfig, image_set: ImageSet, split: Split, *, seeds: SeedTree
) -> list[np.ndarray]:
    """Indices into ``image_set`` for each site."""
    if config.data.split == "keyed" and config.partition.scheme == "iid":
        num_sites = config.partition.num_sites
        tags = set_tags(image_set.take(split.members), key=seeded_split_key(seeds))
        site = site_of_tag(tags, num_sites=num_sites)
        return [split.members[site == number] for number in range(num_sites)]
    labels = None if image_set.labels is None else image_set.labels[split.members]
    groups = None if image_set.groups is None else image_set.groups[split.members]
    rng = seeds.child("partition").numpy()
    dealt = deal(config.partition, labels, len(split.members), rng=rng, groups=groups)
    return [split.members[index] for index in dealt]


def deal(
    settings: PartitionConfig,
    labels: np.ndarray | None,
    num_images: int,
    *,
    rng: np.random.Generator,
    groups: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Each site's indices into ``num_images`` images, by the scheme of ``settings``.

    With ``groups`` (num_images,) the scheme deals people: one of many images counts as one of the
    class that most of them have, and all of them go to one site.

    Raises:     ConfigError for a scheme by label where there are no labels; DataError for fewer
                people than sites.
    """
    if groups is not None:
        people, of_image = np.unique(groups, return_inverse=True)
        if settings.num_sites > len(people):
            raise DataError(
                f"partition.num_sites = {settings.num_sites} exceeds the {len(people)} people that "
                "the training images are of: lower it"
            )
        of_people = None if labels is None else majority(labels, groups)
        dealt = deal(settings, of_people, len(people), rng=rng)
        return [np.flatnonzero(np.isin(of_image, part)) for part in dealt]
    num_sites = settings.num_sites
    if settings.scheme in extension_names(ExtensionPoint.PARTITION):
        own = extension(ExtensionPoint.PARTITION, settings.scheme)
        dealt = own(labels, num_images=num_images, num_sites=num_sites, rng=rng)
        return _checked(dealt, num_images=num_images, settings=settings)
    if settings.scheme == "iid":
        return schemes.iid(num_images, num_sites=num_sites, rng=rng)
    if settings.scheme == "quantity":
        return schemes.quantity_skew(
            num_images,
            num_sites=num_sites,
            alpha=settings.alpha,
            rng=rng,
            min_images_per_site=settings.min_images_per_site,
        )
    if labels is None:
        raise ConfigError(
            f"partition.scheme = {settings.scheme} needs labelled images: use iid or quantity"
        )
    if settings.scheme == "shards":
        return schemes.label_shards(
            labels, num_sites=num_sites, shards_per_site=settings.shards_per_site, rng=rng
        )
    return schemes.dirichlet(
        labels,
        num_sites=num_sites,
        alpha=settings.alpha,
        rng=rng,
        min_images_per_site=settings.min_images_per_site,
    )


def _checked(
    dealt: Sequence[np.ndarray], *, num_images: int, settings: PartitionConfig
) -> list[np.ndarray]:
    """The parts of an installed scheme.

    Raises:     DataError when they are not a partition: an image at two sites would break what
                privacy says of disjoint sites.
    """
    parts = [np.asarray(part, np.int64) for part in dealt]
    everything = np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int64)
    if len(parts) != settings.num_sites or not np.array_equal(everything, np.arange(num_images)):
        raise DataError(
            f"partition.scheme = {settings.scheme} must deal each of {num_images} images to one of "
            f"{settings.num_sites} sites; it dealt {len(everything)} indices to {len(parts)} sites"
        )
    return [np.sort(part) for part in parts]
