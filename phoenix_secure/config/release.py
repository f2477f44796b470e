"""One noised release of class-wise mean features, and the generator that is fitted to it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from phoenix_secure.config.section import Section

__all__ = ["ReleaseConfig"]

ClassName = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class ReleaseConfig(Section):
    """A run that sums features once in place of training by rounds.

    The sites enter, class by class, the sum of the features of their images and the number of
    images into one round (``privacy.unit: record`` or ``group``). Under ``privacy.trust: sum`` they
    noise the secure sum together; under ``site-local`` each noises its own, which a single site can
    do, too (``secure_aggregation.mode: off``). The server fits a generator to the noised sum: that
    costs no privacy.
    """

    features: Literal["none", "pixel", "hog", "hogpix", "pixel-hog", "pixel-hog-patch"] = Field(
        "none",
        description="[name] none: a run of rounds. pixel: random Fourier features of pixels. hog: "
        "of gradient orientations. hogpix: hog with pooled brightness and contrast. pixel-hog: "
        "half and half. pixel-hog-patch: half of these two, half of patches of 5 x 5 pixels, which "
        "tell texture.",
    )
    num_features: int = Field(
        6000,
        ge=16,
        le=100_000,
        multiple_of=4,
        description="[features] Random Fourier features of one class; noise grows with its root.",
    )
    classes: Literal["labels", "none"] = Field(
        "labels",
        description="[name] labels: one sum for each class, where images have labels. none: one "
        "sum of all images.",
    )
    class_names: tuple[ClassName, ...] = Field(
        (),
        max_length=1000,
        description="[names] Public list of classes; needed in a deployment with classes=labels. "
        "Images of other classes enter nothing. Empty in a simulation: the data set's own.",
    )
    count_weight: float = Field(
        0.2,
        gt=0,
        le=1,
        description="[1] Weight lambda of an image's count beside its features of norm 1: the "
        "sensitivity is sqrt(1 + lambda^2).",
    )
    max_images: int = Field(
        16_384,
        ge=1,
        le=2**24,
        description="[images] Public bound on one site's images, for which the integer scale is "
        "chosen. A larger site's sums are cut off: less accurate, no less private.",
    )
    fit_steps: int = Field(2000, ge=1, le=1_000_000, description="[steps] Steps of the generator.")
    fit_batch: int = Field(
        200, ge=4, le=65_536, description="[images] Images generated in one step, all classes."
    )
    fit_learning_rate: float = Field(
        3e-3, gt=0, le=1, description="[1] Adam's peak learning rate; it falls as a cosine."
    )
    fit_average: float = Field(
        0.99, ge=0, lt=1, description="[1] Decay of the averaged weights for each step; 0 is off."
    )
    latent_scale: float = Field(
        1.0,
        gt=0,
        le=1,
        description="[1] Scale of the latents when sampling: below 1 images are more typical and "
        "vary less.",
    )
    sharpness: float = Field(
        1.0,
        gt=0,
        le=100,
        description="[1] Factor on the logits of pixels when sampling: above 1 edges are sharper. "
        "The features hardly see how sharp an edge is.",
    )
    latent_size: int = Field(
        32, ge=1, le=1024, description="[numbers] Random numbers from which an image is generated."
    )
    # All of these stay unwritten where they change nothing, so that plans keep their bytes.
    generators: int = Field(
        1,
        ge=1,
        le=64,
        exclude_if=lambda number: number == 1,
        description="[networks] Generators that are fitted to the same sum from different starts, "
        "each of which draws a part of the images: better ones, for so many times the work.",
    )
    share: float = Field(
        1.0,
        gt=0,
        le=1,
        exclude_if=lambda share: share == 1,
        description="[fraction] Part of privacy.epsilon that the release may spend. Below 1 the "
        "run goes on from its DDPM (then=ddpm) with federation.rounds of DP-SGD on the sites' "
        "images, whose noise is such that both together spend privacy.epsilon.",
    )
    then: Literal["none", "ddpm"] = Field(
        "none",
        description="[name] none: the generator is the run's model. ddpm: a DDPM is trained on "
        "its images alone (training.local_steps steps), at no further cost of privacy.",
    )
    then_images: int = Field(
        20_000, ge=1, le=1_000_000, description="[images] Generated images to train it on."
    )
    then_steps: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        exclude_if=lambda steps: steps is None,
        description="[steps] Of AdamW on them; empty: training.local_steps. Needed with share < 1, "
        "where the section training is about the steps on real images.",
    )
    then_batch: int = Field(
        128,
        ge=1,
        le=65536,
        exclude_if=lambda size: size == 128,
        description="[images] In one of then_steps.",
    )
    then_learning_rate: float = Field(
        2e-3,
        gt=0,
        le=10,
        exclude_if=lambda rate: rate == 2e-3,
        description="[1] Peak learning rate of then_steps.",
    )

    @model_validator(mode="after")
    def _each_draws_its_share(self) -> Self:
        if self.generators > 1 and self.latent_scale != 1:
            raise ValueError(
                "latent_scale is for one generator: set it to 1, or leave generators out"
            )
        return self

    @property
    def is_on(self) -> bool:
        """Whether the run is a release."""
        return self.features != "none"

    @property
    def is_first_of_two(self) -> bool:
        """Whether steps on the sites' images follow, for the rest of one budget."""
        return self.is_on and self.share < 1
