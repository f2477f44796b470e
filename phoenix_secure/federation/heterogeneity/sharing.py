"""Data sharing: a set G that every party may see, warm-up on it, a share of it at every site.

Zhao et al. (2018, arXiv:1806.00582, section 4) make G from the clients' own images. Here G is a
public set, or samples of a model that was trained with differential privacy; the sites' own images
only where the settings say in so many words that they are given away.

Under record-level differential privacy the shared images enter a site as further records, sampled,
clipped and noised like its own. An image of the site then has the same sampling rate and noise as
without them, and the accountant counts it alone; G itself costs nothing, or was paid for when its
generator was trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phoenix_secure.config import RunConfig, SharingConfig
from phoenix_secure.data.groups import of_their_own
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.selection import balanced_indices
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.data.sources import load_images, load_test_images
from phoenix_secure.errors import ConfigError, DataError
from phoenix_secure.federation.heterogeneity.generator import GeneratedImages, sample_from_run
from phoenix_secure.rng import SeedTree

__all__ = ["SharedImages", "load_shared", "mix", "share_of", "shared_size"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedImages:
    """G, and what has to be said about it.

    facts   for summary, ledger and report; ``raw_private_images`` is true where G shows images
            that were somebody's secret
    """

    images: SiteImages
    facts: dict[str, Any]

    @property
    def size(self) -> int:
        """|G|."""
        return len(self.images.images)


def shared_size(settings: SharingConfig, *, num_site_images: int | None) -> int:
    """|G| = round(beta |D|), at least 1, or what the settings say.

    Raises:     ConfigError when |D| is needed and nobody knows it.
    """
    if settings.num_images is not None:
        return settings.num_images
    if num_site_images is None:
        raise ConfigError(
            "in a deployment nobody knows how many images the sites hold: set sharing.num_images "
            "in place of sharing.beta"
        )
    return max(1, round(settings.beta * num_site_images))


def share_of(shared: SiteImages, *, alpha: float, rng: np.random.Generator) -> SiteImages | None:
    """A random part of G without replacement: exactly round(alpha |G|) images, or None for 0."""
    size = round(alpha * len(shared.images))
    if size == 0:
        return None
    chosen = np.sort(rng.choice(len(shared.images), size=size, replace=False))
    return shared.take(chosen)


def mix(own: SiteImages, share: SiteImages | None) -> SiteImages:
    """A site's images followed by its share of G; unlabelled where one of both is.

    Where the site knows whose its images are, each shared one is a group of its own.
    """
    if share is None:
        return own
    labels = None
    if own.labels is not None and share.labels is not None:
        labels = np.concatenate([own.labels, share.labels])
    groups = None
    if own.groups is not None:
        nobodys = of_their_own(len(share.images), beside=own.groups)
        groups = np.concatenate([own.groups, nobodys])
    images = np.concatenate([own.images, share.images])
    return SiteImages(images=images, labels=labels, groups=groups)


def load_shared(
    config: RunConfig,
    *,
    size: int,
    form: tuple[int, int],
    class_names: tuple[str, ...],
    seeds: SeedTree,
    cache_dir: Path,
    site_images: SiteImages | None = None,
) -> SharedImages:
    """G with exactly ``size`` images of ``form`` = (channels, image size).

    ``site_images`` holds all sites' images, for source raw-private; only one process has them.

    Guarantee:  the same settings and seed give the same images.
    Raises:     ConfigError or DataError naming the setting.
    """
    settings = config.sharing
    seeds = seeds.child("sharing")
    match settings.source:
        case "public":
            found = _public(config, size=size, form=form, cache_dir=cache_dir)
            _check_classes(config, found.class_names, class_names)
            images = SiteImages(images=found.images, labels=found.labels)
            facts: dict[str, Any] = {
                "name": settings.name,
                "part": settings.part,
                "sha256": found.digest(),
                "raw_private_images": False,
            }
        case "generator":
            drawn: GeneratedImages = sample_from_run(
                Path(settings.path or ""),
                num_images=size,
                seeds=seeds,
                accept_non_private=settings.accept_raw_private_images,
            )
            _check_classes(config, drawn.class_names, class_names)
            images, facts = drawn.images, drawn.facts
        case _:
            if site_images is None:
                raise ConfigError(
                    "sharing.source raw-private is possible in a simulation only: use public"
                )
            chosen = _balanced(site_images.labels, len(site_images.images), size, seeds)
            images = site_images.take(chosen)
            facts = {
                "raw_private_images": True,
                "warning": f"{size} private images of the sites were given to the server and to "
                "every site",
            }
    if len(images.images) != size or images.images.shape[1:] != (form[0], form[1], form[1]):
        raise DataError(
            f"the shared images are {len(images.images)} of shape {images.images.shape[1:]}, and "
            f"{size} of {(form[0], form[1], form[1])} are needed: lower sharing.beta, or choose "
            "another sharing.name"
        )
    return SharedImages(
        images=images,
        facts={
            "source": settings.source,
            "num_images": size,
            "alpha": settings.alpha,
            "images_at_each_site": round(settings.alpha * size),
            "warmup_steps": settings.warmup_steps,
            **facts,
        },
    )


def _public(config: RunConfig, *, size: int, form: tuple[int, int], cache_dir: Path) -> ImageSet:
    settings = config.sharing
    name = settings.name or ""
    if name == config.data.name and settings.path == config.data.path and settings.part == "train":
        raise ConfigError(
            f"sharing.name = {name} is the set that the sites' own images come from: set "
            "sharing.part=test, or choose another set"
        )
    load = load_test_images if settings.part == "test" else load_images
    return load(
        name,
        path=settings.path,
        image_size=form[1],
        channels=form[0],
        cache_dir=cache_dir,
        max_images=size,
    )


def _check_classes(config: RunConfig, shared: tuple[str, ...], own: tuple[str, ...]) -> None:
    if config.model.class_conditional and shared != own:
        raise ConfigError(
            "the shared images have other classes than the sites' images: set "
            "model.class_conditional=false, or choose another sharing source"
        )


def _balanced(labels: np.ndarray | None, num_images: int, size: int, seeds: SeedTree) -> np.ndarray:
    """``size`` images, as even over the classes as can be, sampled by the run's seed."""
    order = seeds.child("raw").numpy().permutation(num_images)
    shuffled = None if labels is None else labels[order]
    chosen = balanced_indices(shuffled, num_images=num_images, max_images=size)
    return np.sort(order[chosen])
