"""The network and the noising process."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from phoenix_secure.config.section import Extensible, Section
from phoenix_secure.config.start import StartConfig
from phoenix_secure.extensions import ExtensionPoint
from phoenix_secure.presets import MODEL_PRESETS

__all__ = ["CLASSIFIER", "DiffusionConfig", "ModelConfig"]

CLASSIFIER = "classifier"


class ModelConfig(Section):
    """The U-Net (diffusers' UNet2DModel, GroupNorm only)."""

    network: Annotated[str, Extensible(ExtensionPoint.NETWORK, ("unet", CLASSIFIER))] = Field(
        "unet",
        exclude_if=lambda name: name == "unet",
        description="[name] unet (diffusers' UNet2DModel, sized by the fields below); classifier "
        "(a linear one of scattering features, which selects a release's images: "
        "docs/strategies.md); or an installed network. The fields touch the unet alone.",
    )
    preset: Literal["tiny", "tiny-s2d", "small", "base", "cifar10"] = Field(
        "tiny", description="[name] Starting point for the fields below; each can be overridden."
    )
    block_channels: tuple[Annotated[int, Field(ge=4, le=2048)], ...] = Field(
        (16, 32, 64),
        min_length=1,
        max_length=8,
        description="[channels] Width of each level; each further level halves the image.",
    )
    layers_per_block: int = Field(1, ge=1, le=8, description="[blocks] Residual blocks per level.")
    attention: tuple[bool, ...] = Field(
        (False, False, False), description="[flags] Self-attention at each level."
    )
    mid_attention: bool = Field(True, description="[flag] Self-attention at the lowest resolution.")
    norm_groups: int = Field(
        8, ge=1, le=64, description="[groups] GroupNorm groups; must divide every width."
    )
    space_to_depth: Literal[1, 2, 4] = Field(
        1,
        description="[pixels] Fold squares of this side into channels before the U-Net: "
        "faster, a little coarser.",
    )
    class_conditional: bool = Field(
        False, description="[flag] Condition on the class label, with classifier-free guidance."
    )
    init_from: str | None = Field(
        None,
        min_length=1,
        exclude_if=lambda name: name is None,
        description="[path] Start from this model: a run's folder, a diffusers DDPM or DDIM "
        "folder, sha256:HEX of a kept one, or hf://OWNER/NAME (downloaded). Its network and "
        "noising process take the place of the settings here. Empty: fresh weights.",
    )
    start: StartConfig | None = Field(
        None,
        exclude_if=lambda start: start is None,
        description="[model] What init_from led to; the run writes it.",
    )

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return {**MODEL_PRESETS.get(str(values.get("preset", "tiny")), {}), **values}
        return values

    @model_validator(mode="after")
    def _widths_fit(self) -> Self:
        if len(self.attention) != len(self.block_channels):
            raise ValueError(
                f"attention has {len(self.attention)} entries for the "
                f"{len(self.block_channels)} levels in block_channels: give one for each"
            )
        for width in self.block_channels:
            if width % self.norm_groups:
                raise ValueError(
                    f"norm_groups = {self.norm_groups} does not divide the width {width} "
                    "in block_channels"
                )
        if self.start is not None and self.init_from != f"sha256:{self.start.sha256}":
            raise ValueError("start is written by the run: leave it out, and set init_from")
        return self


class DiffusionConfig(Section):
    """The noising process and what the network predicts."""

    num_timesteps: int = Field(1000, ge=10, le=4000, description="[steps] Length T of the process.")
    schedule: Literal["linear", "cosine"] = Field(
        "cosine", description="[name] Noise schedule: linear (Ho 2020) or cosine (Nichol 2021)."
    )
    prediction: Literal["epsilon", "v", "edm"] = Field(
        "v",
        description="[name] epsilon (Ho 2020), v (Salimans 2022), or edm (Karras 2022).",
    )
    min_snr_gamma: float | None = Field(
        None,
        gt=0,
        le=100,
        description="[1] Min-SNR loss weighting (Hang 2023), usually 5; empty is off.",
    )
    edm_sigma_data: float = Field(0.5, gt=0, le=10, description="[1] EDM: spread of the data.")
    edm_p_mean: float = Field(
        -1.2, ge=-5, le=5, description="[log sigma] EDM: mean training noise."
    )
    edm_p_std: float = Field(
        1.2, gt=0, le=5, description="[log sigma] EDM: spread of training noise."
    )

    @model_validator(mode="after")
    def _weighting_defined(self) -> Self:
        if self.min_snr_gamma is not None and self.prediction == "edm":
            raise ValueError("min_snr_gamma is not defined for prediction edm: leave it empty")
        return self
