"""Work at a site in one round."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from phoenix_secure.config.section import Section, YamlSwitch

__all__ = ["TrainingConfig"]


class TrainingConfig(Section):
    """The settings of one site's training in one round."""

    batch_size: int = Field(
        64,
        ge=1,
        le=65536,
        description="[images] Images in one local step "
        "(privacy.unit group: persons expected in one).",
    )
    local_steps: int | None = Field(
        20, ge=1, le=1_000_000, description="[steps] Local steps a round; empty: use local_epochs."
    )
    local_epochs: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="[epochs] Passes over a site's images a round, in place of local_steps.",
    )
    optimizer: Literal["adamw", "sgd"] = Field(
        "adamw", description="[name] Local optimizer, fresh every round."
    )
    learning_rate: float = Field(1e-3, gt=0, le=10, description="[1] Peak local learning rate.")
    weight_decay: float = Field(0.0, ge=0, le=1, description="[1] Decoupled weight decay.")
    warmup_steps: int = Field(
        50, ge=0, le=1_000_000, description="[steps] Linear warm-up, counted over all rounds."
    )
    lr_decay: Literal["none", "cosine"] = Field(
        "cosine", description="[name] Decay of the learning rate over all rounds."
    )
    grad_clip: float | None = Field(
        1.0, gt=0, le=1e6, description="[norm] Clip the batch gradient's L2 norm; empty is off."
    )
    proximal_mu: float = Field(
        0.0, ge=0, le=100, description="[1] FedProx pull towards the global model; 0 is off."
    )
    control_variates: bool = Field(
        False,
        exclude_if=lambda is_on: not is_on,
        description="[flag] SCAFFOLD: steps corrected for a site's drift away from all others.",
    )
    horizontal_flip: bool = Field(False, description="[flag] Mirror images at random.")
    label_dropout: float = Field(
        0.1, ge=0, lt=1, description="[probability] Labels dropped for classifier-free guidance."
    )
    autocast: Annotated[Literal["off", "bfloat16", "float16"], YamlSwitch] = Field(
        "off", description="[type] Mixed precision; helps on recent GPUs, slows most CPUs."
    )
    channels_last: bool = Field(False, description="[flag] NHWC memory layout; measure before use.")
    compile: bool = Field(False, description="[flag] torch.compile; pays only in long runs.")

    # Unwritten for one: plans and run folders from before it keep their bytes.
    devices: int = Field(
        1,
        ge=1,
        le=64,
        exclude_if=lambda devices: devices == 1,
        description="[devices] Devices that share each local step of a site: CUDA devices from "
        "the run's on, or as many processes on the CPU.",
    )

    @model_validator(mode="after")
    def _one_process_only(self) -> Self:
        if self.devices > 1 and (self.autocast == "float16" or self.compile):
            what = "training.compile" if self.compile else "training.autocast float16"
            raise ValueError(f"{what} works on one device: leave it out, or training.devices")
        return self

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.local_steps is None) == (self.local_epochs is None):
            raise ValueError("set exactly one of local_steps and local_epochs, the other to null")
        return self
