"""Which strategies and which kind of differential privacy go together."""

from __future__ import annotations

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import ConfigError

__all__ = ["check_deployment", "check_strategies"]


def check_strategies(config: RunConfig) -> None:
    """Refuse settings that contradict each other or a guarantee.

    Personal layers, partial exchange and error feedback are sound under both kinds of differential
    privacy: what stays at a site is not released, and what leaves is clipped and noised as ever (a
    residual is added before the clipping). A refusal is
    released without noise, so that it may only depend on what is private already: under unit
    ``record`` on samples of the noised model and public images, under unit ``site`` on nothing.

    Raises:     ConfigError naming the setting.
    """
    sharing, filtering, unit = config.sharing, config.filtering, config.privacy.unit
    if config.exchange.error_feedback:
        if config.secure_aggregation.mode != "on":
            raise ConfigError(
                "exchange.error_feedback needs secure_aggregation.mode=on: plaintext updates are "
                "not rounded; set it to false"
            )
        if config.exchange.upload != "all":
            raise ConfigError(
                "exchange.error_feedback needs exchange.upload=all: with alternate, the next "
                "answer is of other parameters"
            )
    if filtering.is_on:
        if filtering.reference == "shared" and sharing.source == "none":
            raise ConfigError(
                "filtering.reference shared needs shared images: set sharing.source, or "
                "filtering.reference=own"
            )
        if filtering.num_images <= filtering.nearest_k:
            raise ConfigError(
                "filtering.num_images must exceed filtering.nearest_k: raise the first"
            )
        if (
            filtering.num_steps > config.diffusion.num_timesteps
            and config.diffusion.prediction != "edm"
        ):
            raise ConfigError(
                f"filtering.num_steps = {filtering.num_steps} exceeds diffusion.num_timesteps = "
                f"{config.diffusion.num_timesteps}: lower it"
            )
        if unit == "site":
            raise ConfigError(
                "filtering is not possible with privacy.unit=site: a site's refusal would depend "
                "on all its images and leave without noise; set filtering.threshold=0"
            )
        if config.privacy.is_dp_sgd and filtering.reference == "own":
            raise ConfigError(
                f"filtering.reference own is not possible with privacy.unit={unit}: a refusal "
                "would depend on images that the guarantee does not cover; set "
                "filtering.reference=shared with a public sharing.source, or filtering.threshold=0"
            )
    # A run from before the keyed split goes on as it began; its guarantee says so.
    follows_images = sharing.source in ("public", "generator") and sharing.num_images is None
    if unit != "none" and follows_images and config.data.split != "stratified":
        raise ConfigError(
            "sharing.beta makes the number of shared images follow from the number of private "
            "ones: with a privacy.unit set sharing.num_images in its place"
        )
    if unit != "none" and sharing.source == "raw-private":
        raise ConfigError(
            "sharing.source raw-private gives away the images that privacy.unit is to protect: "
            "use public or generator, or set privacy.unit=none"
        )


def check_deployment(config: RunConfig) -> None:
    """Refuse shared images that only one process can give to all.

    A plan may name public sets alone: a path in it would let a server choose what a site reads.

    Raises:     ConfigError naming the setting.
    """
    sharing = config.sharing
    if sharing.source == "none":
        return
    if sharing.source != "public" or sharing.path is not None:
        raise ConfigError(
            "in a deployment sharing.source must be public, with a sharing.name that every party "
            "fetches by itself and no sharing.path"
        )
