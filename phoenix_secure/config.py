"""Every setting of a run: one frozen model, each field with its unit, bounds and a sentence.

Outside input (YAML, command line) becomes a :class:`RunConfig` once, in ``config_file``; inside
the program nobody validates again and nobody passes dictionaries.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from phoenix_secure.presets import MODEL_PRESETS

__all__ = [
    "DataConfig",
    "DiffusionConfig",
    "EmaConfig",
    "EvaluationConfig",
    "FederationConfig",
    "ModelConfig",
    "OutputConfig",
    "PartitionConfig",
    "RunConfig",
    "SamplingConfig",
    "TrainingConfig",
]

Fraction = Annotated[float, Field(ge=0, le=0.5)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """What all sections share: frozen, unknown keys refused, no NaN and no infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )


class DataConfig(Section):
    """Which images, at which size, and what is kept back from training."""

    name: Literal[
        "mnist-5k",
        "digits",
        "fashion-mnist",
        "mnist",
        "cifar10",
        "image-folder",
        "npz",
        "huggingface",
    ] = Field("mnist-5k", description="[name] The data set; `phoenix-secure data list` shows all.")
    path: str | None = Field(
        None,
        description="[path] Folder, .npz file, or Hugging Face data set id; only for the data sets "
        "image-folder, npz and huggingface.",
    )
    image_size: int | None = Field(
        None,
        ge=8,
        le=512,
        description="[pixels] Resize to this square; empty keeps the set's own size.",
    )
    channels: Literal[1, 3] | None = Field(
        None, description="[channels] 1 for grey, 3 for colour; empty keeps the set's own."
    )
    max_images: int | None = Field(
        None, ge=1, description="[images] Use only this many images; empty uses all."
    )
    held_out: Fraction = Field(
        0.1, description="[fraction] Real images never trained on: non-members of later audits."
    )
    reference: Fraction = Field(
        0.1,
        description="[fraction] Real images for metrics and attack calibration, never trained on.",
    )

    @model_validator(mode="after")
    def _path_where_needed(self) -> Self:
        if self.name in ("image-folder", "npz", "huggingface") and not self.path:
            raise ValueError(f"path is needed for the data set {self.name!r}: set data.path")
        if self.held_out + self.reference > 0.9:
            raise ValueError("held_out + reference leave less than a tenth for training: lower one")
        return self


class PartitionConfig(Section):
    """How the training images are dealt to the sites."""

    scheme: Literal["iid", "dirichlet", "shards", "quantity"] = Field(
        "dirichlet",
        description="[name] iid, Dirichlet label skew, label shards, or Dirichlet quantity skew.",
    )
    num_sites: int = Field(5, ge=1, le=1000, description="[sites] How many data owners take part.")
    alpha: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="[1] Dirichlet concentration (dirichlet, quantity): small is skewed.",
    )
    shards_per_site: int = Field(
        2, ge=1, le=100, description="[shards] Label shards dealt to each site (scheme shards)."
    )
    min_images_per_site: int = Field(
        1, ge=1, description="[images] Smallest site allowed (schemes dirichlet and quantity)."
    )


class ModelConfig(Section):
    """The U-Net (diffusers' UNet2DModel, GroupNorm only)."""

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


class TrainingConfig(Section):
    """What one site does in one round."""

    batch_size: int = Field(64, ge=1, le=65536, description="[images] Images in one local step.")
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
    horizontal_flip: bool = Field(False, description="[flag] Mirror images at random.")
    label_dropout: float = Field(
        0.1, ge=0, lt=1, description="[probability] Labels dropped for classifier-free guidance."
    )
    autocast: Literal["off", "bfloat16", "float16"] = Field(
        "off", description="[type] Mixed precision; helps on recent GPUs, slows most CPUs."
    )
    channels_last: bool = Field(False, description="[flag] NHWC memory layout; measure before use.")
    compile: bool = Field(False, description="[flag] torch.compile; pays only in long runs.")

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.local_steps is None) == (self.local_epochs is None):
            raise ValueError("set exactly one of local_steps and local_epochs, the other to null")
        return self


class FederationConfig(Section):
    """Rounds, who takes part, and how the server uses the sum of the updates."""

    rounds: int = Field(10, ge=1, le=100_000, description="[rounds] Communication rounds.")
    participation: float = Field(
        1.0, gt=0, le=1, description="[fraction] Share of sites drawn for each round."
    )
    min_sites: int = Field(1, ge=1, description="[sites] Stop when fewer sites answer a round.")
    server_optimizer: Literal["fedavg", "fedavgm", "fedadam", "fedyogi"] = Field(
        "fedavg", description="[name] How the mean update moves the model (Reddi 2021)."
    )
    server_learning_rate: float = Field(1.0, gt=0, le=100, description="[1] Server step size.")
    server_momentum: float = Field(
        0.9, ge=0, lt=1, description="[1] Momentum of FedAvgM, beta1 of FedAdam and FedYogi."
    )
    server_beta2: float = Field(0.99, ge=0, lt=1, description="[1] beta2 of FedAdam and FedYogi.")
    server_tau: float = Field(
        1e-3, gt=0, le=10, description="[1] Adaptivity floor tau of FedAdam and FedYogi."
    )
    workers: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="[sites] Sites trained at once; empty: as many as cores or GPUs.",
    )
    threads_per_site: int = Field(
        1,
        ge=1,
        le=256,
        description="[threads] CPU threads of one site; part of what makes a run repeatable.",
    )
    deadline_s: float = Field(
        86_400.0,
        gt=0,
        description="[seconds] A site that has not answered a round by then is left out.",
    )


class EmaConfig(Section):
    """Moving average of the global model, kept at the server; samples are drawn from it."""

    decay: float = Field(
        0.995, ge=0, lt=1, description="[1] Decay for each local step; 0 turns the average off."
    )
    warmup: bool = Field(
        True, description="[flag] Start with a short memory: min(d, (1+n)/(10+n))."
    )


class SamplingConfig(Section):
    """How images are drawn from the model."""

    sampler: Literal["ddpm", "ddim", "dpm-solver"] = Field(
        "ddim",
        description="[name] Sampler (for EDM: ddim is Euler, dpm-solver its multistep solver).",
    )
    num_steps: int = Field(
        50, ge=1, le=4000, description="[steps] Network evaluations for an image."
    )
    guidance_scale: float = Field(
        1.0,
        ge=0,
        le=50,
        description="[1] Classifier-free guidance; 1 is plain conditional sampling.",
    )
    batch_size: int = Field(128, ge=1, le=65536, description="[images] Images drawn at once.")


class EvaluationConfig(Section):
    """Quality of the samples, always beside held-out real images and noise."""

    every_rounds: int = Field(
        0, ge=0, description="[rounds] Evaluate every so many rounds; 0 only at the end."
    )
    num_images: int = Field(
        500, ge=0, le=1_000_000, description="[images] Images drawn and compared; 0 turns it off."
    )
    extractor: Literal["efficientnet-lite0", "inception"] = Field(
        "efficientnet-lite0", description="[name] Network whose features are compared."
    )
    inception_weights: str | None = Field(
        None,
        description="[path] TorchScript file inception-2015-12-05.pt, for extractor inception.",
    )

    @model_validator(mode="after")
    def _weights_where_needed(self) -> Self:
        if self.extractor == "inception" and not self.inception_weights:
            raise ValueError(
                "extractor inception needs inception_weights, the path of the weights file"
            )
        return self


class OutputConfig(Section):
    """What a run writes besides its checkpoints."""

    samples_every_rounds: int = Field(
        5,
        ge=0,
        description="[rounds] Draw a sample grid and curves every so many rounds; 0 at the end.",
    )
    num_samples: int = Field(64, ge=1, le=4096, description="[images] Images in a sample grid.")
    keep_checkpoints: int = Field(
        2, ge=1, le=100_000, description="[files] Newest checkpoints kept."
    )
    tensorboard: bool = Field(False, description="[flag] Also write TensorBoard events (an extra).")


class RunConfig(Section):
    """All settings of one run."""

    seed: int = Field(
        0, ge=0, lt=2**63, description="[1] Root of every reproducible random stream."
    )
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field(
        "auto", description="[name] auto (CUDA, else CPU), cpu, cuda (all GPUs in turn), or cuda:N."
    )
    data: DataConfig = Field(DataConfig(), description="Images.")
    partition: PartitionConfig = Field(PartitionConfig(), description="Who holds what.")
    model: ModelConfig = Field(ModelConfig(), description="The network.")
    diffusion: DiffusionConfig = Field(DiffusionConfig(), description="The noising process.")
    training: TrainingConfig = Field(TrainingConfig(), description="Work at a site.")
    federation: FederationConfig = Field(FederationConfig(), description="Rounds and server.")
    ema: EmaConfig = Field(EmaConfig(), description="Averaged model.")
    sampling: SamplingConfig = Field(SamplingConfig(), description="Drawing images.")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="Quality of samples.")
    output: OutputConfig = Field(OutputConfig(), description="Files.")

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if self.diffusion.prediction == "edm" and self.sampling.sampler == "ddpm":
            raise ValueError(
                "sampling.sampler ddpm is not defined for diffusion.prediction edm: use ddim"
            )
        if (
            self.sampling.num_steps > self.diffusion.num_timesteps
            and self.diffusion.prediction != "edm"
        ):
            raise ValueError(
                f"sampling.num_steps = {self.sampling.num_steps} exceeds "
                f"diffusion.num_timesteps = {self.diffusion.num_timesteps}: lower it"
            )
        if self.federation.min_sites > self.partition.num_sites:
            raise ValueError(
                f"federation.min_sites = {self.federation.min_sites} exceeds "
                f"partition.num_sites = {self.partition.num_sites}: lower it"
            )
        return self
