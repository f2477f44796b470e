"""A heterogeneity strategy of the user's own: what it returns is checked before it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from phoenix_secure.errors import TrainingError
from phoenix_secure.extensions import ExtensionPoint, extension
from phoenix_secure.training.local import LocalUpdate

__all__ = ["own_strategy"]

Reshape = Callable[[LocalUpdate, np.ndarray, int], LocalUpdate]
"""``(update, parameters, round_number)`` -> the update that takes its place."""


def own_strategy(name: str | None) -> Reshape:
    """The extension ``name`` (``extensions.HeterogeneityStrategy``); None leaves updates alone.

    Guarantee:  what it returns has the update's shape and is finite, and no other fact of the
                update changes.
    Raises:     ConfigError for an extension that is missing; when called, TrainingError for one
                that fails or returns something else, which says nothing about the values.
    """
    if name is None:
        return lambda update, parameters, round_number: update
    strategy = extension(ExtensionPoint.HETEROGENEITY_STRATEGY, name)

    def reshape(update: LocalUpdate, parameters: np.ndarray, round_number: int) -> LocalUpdate:
        shown = parameters.view()
        shown.flags.writeable = False
        try:
            found = strategy(
                update.delta.copy(),
                parameters=shown,
                round_number=round_number,
                num_steps=update.num_steps,
            )
        except Exception as error:  # whatever somebody else's code raises
            raise TrainingError(
                f"exchange.strategy {name} failed with {type(error).__name__}: fix the extension, "
                "or leave the setting out"
            ) from error
        if (
            not isinstance(found, np.ndarray)
            or found.shape != update.delta.shape
            or not np.issubdtype(found.dtype, np.floating)
        ):
            raise TrainingError(
                f"exchange.strategy {name} must return an array of {update.delta.size} floating-"
                "point numbers, the shape of the update that it is given: fix the extension"
            )
        with np.errstate(over="ignore"):  # found by the check that follows
            delta = found.astype(np.float32)
        if not np.isfinite(delta).all():
            raise TrainingError(
                f"exchange.strategy {name} returned NaN or infinite numbers: fix the extension"
            )
        return replace(update, delta=delta)

    return reshape
