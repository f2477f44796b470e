"""Differential privacy: for whom it holds, how much, and by which mechanism."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from phoenix_secure.config.section import Section

__all__ = ["PrivacyConfig"]

_IMAGES_PER_GROUP = 4


class PrivacyConfig(Section):
    """Differential privacy, off unless a unit is named.

    ``record``: adding or removing one image of one site. Each site runs DP-SGD, and the guarantee
    holds against everybody, the server included; ``trust`` says otherwise. ``group``: the same,
    adding or removing all images of one person of one site, whom ``data.group`` tells apart.
    ``site``: adding or removing one whole site; the noise is made by all sites together, inside
    secure aggregation.
    """

    unit: Literal["none", "record", "group", "site"] = Field(
        "none",
        description="[name] What one neighbour adds or removes: an image, all images of one person "
        "(group, which needs data.group) or a whole site.",
    )
    # Unwritten where it says what files from before it existed say by silence.
    trust: Literal["site-local", "sum"] = Field(
        "site-local",
        exclude_if=lambda trust: trust == "site-local",
        description="[name] Who adds the noise of units record and group. site-local: each site "
        "all of it, which holds against everybody. sum: the sites together, inside secure "
        "aggregation, which holds while at most c sites work with the server; for a release "
        "(release.features) and for sums of gradients (federation.exchange).",
    )
    epsilon: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="[1] Budget over all rounds; the noise multiplier is found from it. Give this "
        "or noise_multiplier.",
    )
    delta: float = Field(
        1e-5, gt=0, lt=1, description="[1] Probability part of the guarantee; below 1/images."
    )
    noise_multiplier: float | None = Field(
        None,
        gt=0,
        le=1e4,
        description="[clip norms] Standard deviation of the noise; epsilon is found from it.",
    )
    clip_norm: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="[norm] L2 bound of one image's gradient (record), of one person's (group: the "
        "mean over her images of a step) or of one update (site).",
    )
    adaptive_clip: bool = Field(
        False,
        description="[flag] Let the clip norm follow the updates (site): it starts at clip_norm "
        "and moves until the share clip_quantile of them is within. Costs clip_budget.",
    )
    clip_quantile: float = Field(
        0.5, ge=0, le=1, description="[fraction] Updates that should be within the norm (site)."
    )
    clip_learning_rate: float = Field(
        0.2, gt=0, le=10, description="[1] Speed of the adaptive norm, on its logarithm (site)."
    )
    clip_budget: float = Field(
        0.02,
        gt=0,
        le=0.5,
        description="[fraction] Share of the squared sensitivity that the noised count of updates "
        "within the norm takes (site, adaptive_clip): more gives a steadier norm and noisier "
        "updates.",
    )
    sampling_rate: float = Field(
        0.01,
        gt=0,
        le=1,
        description="[probability] Each image (record) or person (group) enters a step with this "
        "probability. A public constant, the same at every site; sums are divided by "
        "training.batch_size, which counts images or persons accordingly.",
    )
    # Unwritten at its default: files from before it existed say nothing.
    images_per_group: int = Field(
        _IMAGES_PER_GROUP,
        ge=1,
        le=1024,
        exclude_if=lambda most: most == _IMAGES_PER_GROUP,
        description="[images] Most images of one person in a step (group), drawn anew each time; "
        "her gradient is the mean over them. More is less noise of the draw, and more compute.",
    )
    noise_draws: int = Field(
        1,
        ge=1,
        le=1024,
        description="[draws] Timesteps and noises of one image averaged inside its one gradient "
        "(record, group; noise multiplicity K of Dockhorn et al. 2023).",
    )
    augmentations: int = Field(
        1,
        ge=1,
        le=64,
        description="[copies] Random shifts and flips of an image averaged the same way (record, "
        "group).",
    )
    physical_batch: int = Field(
        32,
        ge=1,
        le=65536,
        description="[images] Most images differentiated at once (record, group): memory, not "
        "privacy.",
    )
    gradients: Literal["layers", "vmap", "hooks", "ghost"] = Field(
        "layers",
        description="[name] How gradients of single images are found (record, group). layers: by "
        "rules of layers in one batched pass. vmap: by torch.func, for any layer; slower, more "
        "memory. hooks and ghost are no more and read as layers.",
    )
    noise_source: Literal["secure", "seeded"] = Field(
        "secure",
        description="[name] secure: keys of the operating system. seeded: repeatable, for "
        "research; whoever knows the seed removes the noise, so that no guarantee is claimed.",
    )
    release_metrics: bool = Field(
        False,
        description="[flag] Let sums of losses and numbers of images leave the sites without "
        "noise. They are outside the guarantee; off, every site counts alike.",
    )

    with_start: bool = Field(
        False,
        exclude_if=lambda counts: not counts,
        description="[flag] Count what the runs behind model.init_from have spent: privacy.epsilon "
        "is then of those and this run together, and the noise is made for what they left.",
    )

    @property
    def record_kind(self) -> Literal["record", "group"]:
        """What one record of the accounting is: all images of one person, or an image."""
        return "group" if self.unit == "group" else "record"

    @property
    def is_dp_sgd(self) -> bool:
        """Whether single images, or persons, are protected: gradients are clipped one by one."""
        return self.unit in ("record", "group")

    @property
    def hides_metrics(self) -> bool:
        """Whether sites count alike and tell neither losses nor numbers of images."""
        return self.unit != "none" and not self.release_metrics

    @field_validator("delta", "epsilon", "sampling_rate", mode="before")
    @classmethod
    def _means_something(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what the bounds below would, with the reason and the fix."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            return value
        if info.field_name == "delta" and not 0 < number < 1:
            raise ValueError("must be above 0 and well below 1/images: set 1e-5 or less")
        if info.field_name == "epsilon" and not 0 < number <= 1000:
            raise ValueError("must be above 0 and at most 1000, where nothing is promised: 1 to 10")
        if info.field_name == "sampling_rate" and not 0 < number <= 1:
            raise ValueError("must be above 0 and at most 1: set training.batch_size/images or so")
        return value

    @model_validator(mode="after")
    def _one_of_epsilon_and_noise(self) -> Self:
        if self.unit == "none":
            if self.epsilon is not None or self.noise_multiplier is not None:
                raise ValueError(
                    "epsilon and noise_multiplier need a unit: set privacy.unit to record, "
                    "group or site"
                )
        elif (self.epsilon is None) == (self.noise_multiplier is None):
            raise ValueError("set exactly one of privacy.epsilon and privacy.noise_multiplier")
        if self.trust == "sum" and not self.is_dp_sgd:
            raise ValueError(
                "trust sum is about single images or persons: set privacy.unit to record or group"
            )
        if self.images_per_group != _IMAGES_PER_GROUP and self.unit != "group":
            raise ValueError("images_per_group is for persons: set privacy.unit to group")
        if self.with_start and (self.unit != "record" or self.epsilon is None):
            raise ValueError(
                "with_start shares one epsilon with an earlier run: set privacy.unit=record, and "
                "privacy.epsilon"
            )
        if self.adaptive_clip and self.unit != "site":
            raise ValueError("adaptive_clip is for whole updates: set privacy.unit to site")
        return self
