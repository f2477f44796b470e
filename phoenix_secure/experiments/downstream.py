"""Downstream utility of synthetic images: train a classifier on them alone, test it on real ones.

The accuracy of the same classifier trained on the real training images stands beside it, as the
best to hope for. The run held the test images out; nothing is chosen with their help.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from phoenix_secure.data.images import to_unit_range
from phoenix_secure.data.sources import load_run_images
from phoenix_secure.data.split import load_split
from phoenix_secure.device import num_cores
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.saved_model import classes_in_turn, draw, load_any
from phoenix_secure.metrics.classifier import train_classifier
from phoenix_secure.rng import SeedTree
from phoenix_secure.workers import workers

__all__ = ["downstream_accuracy"]


def downstream_accuracy(
    run: Path, *, num_images: int, epochs: int, cache_dir: Path, device: torch.device
) -> dict[str, Any]:
    """Accuracy on real held-out images after training on ``num_images`` synthetic ones.

    Guarantee:  the same run gives the same figures on one device. The classifier trained on real
                images sees as many passes over the training images (at most ``num_images``).
    Raises:     ConfigError for a model or data without classes.
    Source:     the measure of Dockhorn et al. (2023), section 5, with a smaller classifier.
    """
    folder = RunFolder(run)
    config = folder.load_config()
    if not config.makes_generator and not config.model.class_conditional:
        raise ConfigError("downstream accuracy needs labels: set model.class_conditional=true")
    image_set = load_run_images(config.data, seed=config.seed, cache_dir=cache_dir)
    if image_set.labels is None:
        raise ConfigError(f"downstream accuracy needs labels, and {config.data.name} has none")
    split = load_split(folder.split_file, image_set=image_set)
    labels = image_set.labels
    test = to_unit_range(image_set.take(split.held_out).images)
    seeds = SeedTree(config.seed).child("downstream")
    synthetic, wished = _drawn(
        folder.model,
        num_images=num_images,
        seeds=seeds,
        num_classes=image_set.num_classes,
        device=device,
    )
    real = split.members
    if len(real) > num_images:  # the same number, or the comparison is of sizes
        real = np.sort(seeds.child("real").numpy().choice(real, num_images, replace=False))
    accuracy = {
        name: train_classifier(
            images,
            labels=targets,
            num_classes=image_set.num_classes,
            dataset=name,
            generator=seeds.child("classifier").torch(),
            device=device,
            epochs=epochs,
        ).accuracy(test, labels=labels[split.held_out])
        for name, images, targets in (
            ("synthetic", synthetic, wished),
            ("real", to_unit_range(image_set.take(real).images), labels[real]),
        )
    }
    return {
        "accuracy_synthetic": accuracy["synthetic"],
        "accuracy_real": accuracy["real"],
        "num_synthetic": num_images,
        "num_real": len(real),
        "num_test": len(test),
        "epochs": epochs,
    }


def _drawn(
    model_folder: Path, *, num_images: int, seeds: SeedTree, num_classes: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels from a diffusion model or a release's generator, known classes in turn.

    Raises:     ConfigError for one without these classes.
    """
    model = load_any(model_folder, device=device)
    labels = classes_in_turn(model, num_images)
    if labels is None or len(model.class_names) != num_classes:
        raise ConfigError("downstream accuracy needs labels: set release.classes=labels")
    with workers(num_cores()):
        images = draw(
            model, num_images=num_images, generator=seeds.child("draw").torch(), class_labels=labels
        )
    return images, labels
