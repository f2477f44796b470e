"""A sweep as its user writes it: a base, axes, extra points, and what is measured at each point."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from phoenix_secure.config import RunConfig
from phoenix_secure.config.faults import explain
from phoenix_secure.config.paths import absolute_path
from phoenix_secure.config.section import Section
from phoenix_secure.errors import ConfigError
from phoenix_secure.yaml_text import read_yaml, shorten

__all__ = ["DownstreamSpec", "SweepSpec", "load_spec"]

Overrides = dict[str, Any]


class DownstreamSpec(Section):
    """A classifier trained on synthetic images alone and tested on real ones."""

    num_images: int = Field(
        2000, ge=0, le=1_000_000, description="[images] Synthetic training images; 0 is off."
    )
    epochs: int = Field(8, ge=1, le=1000, description="[epochs] Passes over them.")


class SweepSpec(Section):
    """One sweep: the grid of all axes, then the extra points."""

    base: str | None = Field(
        None, description="[path] Settings of every point, beside the sweep's file."
    )
    settings: Overrides = Field(
        {}, description="[section.key: value] Changes to the base, for every point."
    )
    axes: dict[str, list[Any] | dict[str, Overrides]] = Field(
        {},
        description="Either a setting with a list of values (seed: [0, 1, 2]), or a name with "
        "labelled changes (privacy: {none: {}, epsilon 1: {privacy.epsilon: 1}}).",
    )
    points: dict[str, Overrides] = Field(
        {}, description="Further points outside the grid: label -> changes."
    )
    downstream: DownstreamSpec = Field(
        DownstreamSpec(num_images=0), description="Accuracy on real images, class-conditional only."
    )
    audit: Literal["none", "smoke", "fast", "full"] = Field(
        "none", description="[profile] Attack every point's model."
    )

    def settings_of(self, axis: str) -> set[str]:
        """The settings that ``axis`` changes."""
        values = self.axes[axis]
        if isinstance(values, list):
            return {axis}
        return {setting for changes in values.values() for setting in changes}

    @property
    def curve_axes(self) -> list[str]:
        """Axes that tell curves apart: neither seeds nor the amount of privacy."""
        return [
            axis
            for axis in self.axes
            if not all(
                name == "seed" or name.startswith("privacy.") for name in self.settings_of(axis)
            )
        ] + (["point"] if self.points else [])

    @property
    def skew_axis(self) -> str | None:
        """The first axis that decides how images are dealt."""
        dealing = ("partition.",)
        axes = (a for a in self.axes if any(s.startswith(dealing) for s in self.settings_of(a)))
        return next(axes, None)

    @field_validator("axes")
    @classmethod
    def _no_empty_axis(cls, axes: dict[str, Any]) -> dict[str, Any]:
        for name, values in axes.items():
            axis = f"axis {shorten(name)[1:-1]}"
            if not values:
                raise ValueError(f"{axis} has no value: give at least one or leave it out")
            texts = [str(value) for value in values]
            if len(set(texts)) < len(texts):
                raise ValueError(f"{axis} names a value twice")
        return axes


def load_spec(path: Path) -> SweepSpec:
    """Read a sweep file.

    Raises:     ConfigError naming the key and the fix.
    """
    try:
        tree = read_yaml(path)
    except FileNotFoundError as error:
        raise ConfigError(f"no sweep file {path}: `configs/` holds examples") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold axes: or points:, as in configs/sweep_*.yaml")
    try:
        spec = SweepSpec.model_validate(tree)
    except ValidationError as error:
        if not {"axes", "points"} & set(tree) and set(tree) & set(RunConfig.model_fields):
            raise ConfigError(
                f"{path} holds the settings of one run: use `phoenix-secure run`, or name it as "
                "base: in a sweep"
            ) from error
        raise ConfigError(f"{path}: {explain(error, of=SweepSpec)}") from error
    if not spec.axes and not spec.points:
        raise ConfigError(f"{path}: nothing to run: give axes or points")
    base = None if spec.base is None else absolute_path(spec.base, folder=path.parent.absolute())
    return spec.model_copy(update={"base": base})
