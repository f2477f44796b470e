"""A user's network in the place of diffusers' U-Net: built by name, saved and opened with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config

from phoenix_secure.errors import ConfigError
from phoenix_secure.extensions import ExtensionPoint, extension

__all__ = ["OwnNetwork"]


@dataclass(frozen=True, slots=True)
class _Output:
    sample: torch.Tensor


class OwnNetwork(ModelMixin, ConfigMixin):
    """The network ``network`` of the extension point, with the call and config of a U-Net.

    The folder of a saved model names the extension, never its code: opening it needs the package
    that registers it.

    Raises:     ConfigError for a network that is no module, or that mixes the images of a batch.
    """

    @register_to_config
    def __init__(
        self,
        network: str,
        sample_size: int,
        in_channels: int,
        num_class_embeds: int | None = None,
    ) -> None:
        super().__init__()
        build = extension(ExtensionPoint.NETWORK, network)
        self.inner = build(
            image_size=sample_size,
            channels=in_channels,
            num_classes=0 if num_class_embeds is None else num_class_embeds - 1,
        )
        if not isinstance(self.inner, torch.nn.Module):
            raise ConfigError(
                f"model.network = {network} built a {type(self.inner).__name__}: a network must "
                "be a torch.nn.Module"
            )
        mixing = [
            type(layer).__name__
            for layer in self.inner.modules()
            if isinstance(layer, torch.nn.modules.batchnorm._NormBase)
        ]
        if mixing:
            raise ConfigError(
                f"model.network = {network} has {mixing[0]}, which mixes the images of a batch or "
                "keeps running figures of them: use GroupNorm"
            )

    def forward(self, x: torch.Tensor, t: Any, class_labels: torch.Tensor | None = None) -> _Output:
        """Predict at step ``t`` (a number, or one a image)."""
        if not torch.is_tensor(t):
            t = torch.tensor(t, device=x.device)
        t = t.to(x.device).expand(len(x))
        found = self.inner(x, t) if class_labels is None else self.inner(x, t, class_labels)
        sample = getattr(found, "sample", found)
        if sample.shape != x.shape:
            raise ConfigError(
                f"model.network = {self.config.network} answers {tuple(sample.shape)} to "
                f"{tuple(x.shape)}: it must keep the shape"
            )
        return _Output(sample=sample)
