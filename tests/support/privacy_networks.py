"""Small real networks of every preset's kind, in float64, with rows of real-shaped images."""

from __future__ import annotations

import torch
from torch import nn

from phoenix_secure.config_file import load_config
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.privacy.per_image import ImageRows
from phoenix_secure.rng import SeedTree


def network_of(preset: str, *, conditional: bool, image_size: int = 8) -> nn.Module:
    """The preset's U-Net, trained for no step, in float64."""
    config = load_config(None, [f"model.preset={preset}", f"model.class_conditional={conditional}"])
    network = build_unet(
        config.model,
        image_size=image_size,
        channels=1,
        num_classes=3,
        seeds=SeedTree(0),
    )
    network = network.double().train()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():  # zero-initialised layers would hide mistakes
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.05 * noise)
    for parameter in network.parameters():
        parameter.summed_grad = None
    return network


def rows_of(
    network: nn.Module, *, num_images: int, num_rows: int, conditional: bool, seed: int = 0
) -> ImageRows:
    generator = torch.Generator().manual_seed(seed)
    side, channels = network.config.sample_size, network.config.in_channels
    shape = (num_images, num_rows, channels, side, side)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    labels = torch.randint(3, (num_images, num_rows), generator=generator) if conditional else None
    return ImageRows(
        inputs=draw(*shape),
        times=torch.randint(1000, (num_images, num_rows), generator=generator),
        target=draw(*shape),
        weight=draw(num_images, num_rows).abs() + 0.1,
        labels=labels,
    )


def one_image_loop(network: nn.Module, rows: ImageRows) -> list[dict[str, torch.Tensor]]:
    """The slow oracle: ordinary autograd, one image after the other."""
    found = []
    for i in range(rows.num_images):
        network.zero_grad(set_to_none=True)
        labels = None if rows.labels is None else rows.labels[i]
        output = network(rows.inputs[i], rows.times[i], class_labels=labels).sample
        error = ((output - rows.target[i]) ** 2).flatten(1).mean(dim=1)
        (rows.weight[i] * error).mean().backward()
        found.append({name: p.grad.clone() for name, p in network.named_parameters()})
    network.zero_grad(set_to_none=True)
    return found


def clipped_sum(
    gradients: list[dict[str, torch.Tensor]], clip_norm: float
) -> dict[str, torch.Tensor]:
    """Clip each and add, as the definition says."""
    total = {name: torch.zeros_like(value) for name, value in gradients[0].items()}
    for gradient in gradients:
        norm = sum(float((value**2).sum()) for value in gradient.values()) ** 0.5
        for name, value in gradient.items():
            total[name] += value * min(1.0, clip_norm / norm)
    return total
