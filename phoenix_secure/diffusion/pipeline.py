"""A diffusers pipeline for models that the plain DDPMPipeline cannot sample from.

It adds three things: pixels folded into channels (``space_to_depth``), class labels with
classifier-free guidance, and schedulers that scale the network's input (EDM).

This file is copied into such a model's folder, so that anyone with diffusers alone can run
``DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)``.
It must therefore import nothing but torch and diffusers.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor


class PhoenixPipeline(DiffusionPipeline):
    """Samples images from a UNet2DModel, with labels and folded pixels where the model has them."""

    model_cpu_offload_seq = "unet"

    def __init__(self, unet: Any, scheduler: Any, space_to_depth: int = 1) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(space_to_depth=space_to_depth)

    @property
    def null_label(self) -> int | None:
        """The label that means "no label", or None for an unconditional model."""
        embeddings = self.unet.config.num_class_embeds
        return None if embeddings is None else embeddings - 1

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        generator: torch.Generator | None = None,
        num_inference_steps: int = 50,
        class_labels: torch.Tensor | None = None,
        guidance_scale: float = 1.0,
        output_type: str = "pil",
    ) -> ImagePipelineOutput:
        """Sample ``batch_size`` images.

        Args:
            class_labels: (batch_size,) int64, or None for images without a wished class.
            guidance_scale: w in ``null + w * (conditional - null)``; 1 means no extra guidance.
            output_type: "pil", "np" (B, H, W, C in [0, 1]) or "pt" (B, C, H, W in [0, 1]).
        """
        unet, scheduler, device = self.unet, self.scheduler, self._execution_device
        side = unet.config.sample_size
        image = randn_tensor(
            (batch_size, unet.config.in_channels, side, side),
            generator=generator,
            device=device,
            dtype=unet.dtype,
        )
        labels = self._labels(class_labels, batch_size=batch_size, device=device)
        scheduler.set_timesteps(num_inference_steps)
        image = image * scheduler.init_noise_sigma
        for t in self.progress_bar(scheduler.timesteps):
            scaled = scheduler.scale_model_input(image, t)
            output = self._predict(scaled, t, labels=labels, guidance=guidance_scale)
            image = scheduler.step(output, t, image, generator=generator).prev_sample
        if self.config.space_to_depth > 1:
            image = torch.nn.functional.pixel_shuffle(image, self.config.space_to_depth)
        image = (image / 2 + 0.5).clamp(0, 1)
        if output_type == "pt":
            return ImagePipelineOutput(images=image)
        array = image.cpu().permute(0, 2, 3, 1).numpy()
        return ImagePipelineOutput(
            images=array if output_type == "np" else self.numpy_to_pil(array)
        )

    def _labels(
        self, class_labels: torch.Tensor | None, *, batch_size: int, device: torch.device
    ) -> torch.Tensor | None:
        null_label = self.null_label
        if null_label is None:
            if class_labels is not None:
                raise ValueError("this model is not class-conditional: leave class_labels out")
            return None
        if class_labels is None:
            return torch.full((batch_size,), null_label, device=device)
        if (
            class_labels.shape != (batch_size,)
            or not ((class_labels >= 0) & (class_labels < null_label)).all()
        ):
            raise ValueError(
                f"expected class_labels of shape ({batch_size},) in 0..{null_label - 1}"
            )
        return class_labels.to(device)

    def _predict(
        self, image: torch.Tensor, t: torch.Tensor, *, labels: torch.Tensor | None, guidance: float
    ) -> Any:
        t = t.to(image.device)
        if labels is None:
            return self.unet(image, t).sample
        conditional = self.unet(image, t, class_labels=labels).sample
        if guidance == 1.0:
            return conditional
        nulls = torch.full_like(labels, self.unet.config.num_class_embeds - 1)
        null = self.unet(image, t, class_labels=nulls).sample
        return null + guidance * (conditional - null)
