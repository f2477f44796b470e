"""The strategies of a deployment, as its server and each of its sites set them up."""

from __future__ import annotations

from pathlib import Path

import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.federation.heterogeneity.checks import check_deployment
from phoenix_secure.federation.heterogeneity.run_strategies import RunStrategies
from phoenix_secure.federation.heterogeneity.sharing import load_shared, shared_size
from phoenix_secure.rng import SeedTree

__all__ = ["deployment_strategies"]


def deployment_strategies(
    config: RunConfig, *, seeds: SeedTree, device: torch.device, cache_dir: Path
) -> RunStrategies:
    """Every party loads G from its own cache; the settings of the plan decide the rest.

    Raises:     ConfigError or DataError naming the setting, or the set that is not fetched yet.
    """
    check_deployment(config)
    form = config.data.channels or 0, config.data.image_size or 0
    return RunStrategies(
        config,
        form=form,
        num_classes=len(config.release.class_names or config.data.class_names),
        seeds=seeds,
        device=device,
        load_shared=lambda: load_shared(
            config,
            size=shared_size(config.sharing, num_site_images=None),
            form=form,
            class_names=config.data.class_names,
            seeds=seeds,
            cache_dir=cache_dir,
        ),
    )
