"""One run of the comparison: train it (or go on with it), sample, evaluate, keep the figures."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phoenix_secure.config_file import load_config
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.data.images import from_unit_range, to_unit_range
from phoenix_secure.data.partition import DataPartition
from phoenix_secure.federation.run.evaluation import feature_extractor
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.files import write_bytes
from phoenix_secure.metrics.class_coverage import class_coverage
from phoenix_secure.metrics.classifier import Classifier, load_classifier, train_classifier
from phoenix_secure.metrics.feature_cache import FeatureCache
from phoenix_secure.metrics.quality import quality
from phoenix_secure.pictures import plain_png, save_grid
from phoenix_secure.rng import SeedTree

CONFIG = Path(__file__).parents[1] / "configs" / "fashion_strategies.yaml"
NUM_SAMPLED = 2000
NUM_EVALUATED = 1000


def measure(folder: Path, overrides: list[str]) -> dict[str, Any]:
    """The figures of a run, from its folder when they are there."""
    figures = folder / "measured.json"
    if figures.exists():
        return json.loads(figures.read_text())
    config = load_config(CONFIG, overrides)
    run = RunFolder(folder)
    federation = Run(SimulatedSites(config, cache_dir=default_cache_dir()))
    with run.lock():
        if run.config_file.exists():
            state = federation.resume(run)
        else:
            state = federation.start(run, overwrite=False)
        list(federation.rounds(state, run))
        summary = federation.finish(run)
    state = run.load_state(config=config)
    models = federation.backend.personal_models(run, state)
    federation.backend.model.use(state)
    found = {"global": _evaluated(federation, federation.backend.model, folder.parent)}
    if models is not None:
        found["personal"] = _evaluated(federation, models, folder.parent)
    lines = run.read_metrics()
    found |= {
        "bytes_up": summary.bytes_up,
        "bytes_down": summary.bytes_down,
        "seconds": summary.training_seconds,
        "answers": sum(len(line["sites"]) for line in lines),
        "refusals": sum(list(line["failures"].values()).count("refused") for line in lines),
        "strategies": summary.strategies,
    }
    main = models or federation.backend.model
    federation.backend.model.use(state)
    save_grid(
        from_unit_range(main.sample(40, purpose="grid")), folder / "grid.png", encode=plain_png
    )
    write_bytes(figures, (json.dumps(found, indent=2) + "\n").encode())
    return found


def measure_ends(out: Path, overrides: list[str]) -> None:
    """The same figures for held-out real images and for noise, between which all rows lie."""
    file = out / "ends.json"
    if file.exists():
        return
    federation = Run(SimulatedSites(load_config(CONFIG, overrides), cache_dir=default_cache_dir()))
    images = federation.backend.partition.image_set
    held_out = to_unit_range(images.take(federation.backend.partition.split.held_out).images)
    noise = np.random.default_rng(0).uniform(-1, 1, held_out.shape).astype(np.float32)
    found = {
        "held-out real": _figures(held_out, federation.backend.partition, out),
        "noise": _figures(noise, federation.backend.partition, out),
    }
    write_bytes(file, (json.dumps(found, indent=2) + "\n").encode())


def _evaluated(federation: Run, model: Any, cache_folder: Path) -> dict[str, Any]:
    drawn = model.sample(NUM_SAMPLED, purpose="evaluation")
    # Personal models sample site by site: evaluate an even choice of all.
    order = np.random.default_rng(0).permutation(len(drawn))
    return _figures(drawn[order], federation.backend.partition, cache_folder)


def _figures(images: np.ndarray, partition: DataPartition, cache_folder: Path) -> dict[str, Any]:
    split, real = partition.split, partition.image_set
    reference = to_unit_range(real.take(split.reference[:NUM_EVALUATED]).images)
    extractor = _extractor()
    found = quality(
        extractor(images[:NUM_EVALUATED]), extractor(reference), rng=np.random.default_rng(0)
    )
    classes = class_coverage(
        _classifier(partition, cache_folder).probabilities(images),
        real_labels=real.take(split.reference).labels,
    )
    return {
        "kid": found.kid,
        "kid_std": found.kid_std,
        "precision": found.precision,
        "recall": found.recall,
        "coverage": found.coverage,
        "histogram": list(classes.histogram),
        "entropy_bits": classes.entropy_bits,
        "total_variation": classes.total_variation,
    }


@cache
def _extractor() -> FeatureCache:
    settings = load_config(CONFIG).evaluation
    return FeatureCache(feature_extractor(settings, device=torch.device("cpu")))


def _classifier(partition: DataPartition, folder: Path) -> Classifier:
    """Trained once on the images of one seed's sites."""
    path = folder / "classifier.safetensors"
    if not path.exists():
        members = partition.image_set.take(np.concatenate(list(partition.parts.values())))
        classifier = train_classifier(
            to_unit_range(members.images),
            labels=members.labels,
            num_classes=members.num_classes,
            dataset=members.name,
            generator=SeedTree(0).child("classifier").torch(),
            device=torch.device("cpu"),
            epochs=3,
        )
        classifier.save(path)
    return load_classifier(path, device=torch.device("cpu"))
