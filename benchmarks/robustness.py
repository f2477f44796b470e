"""One site lies inside secure sums: what bounds stop, what a tight clip stops, what nothing stops.

    python benchmarks/robustness.py --out runs/robustness            # 20 minutes of one core
    python benchmarks/robustness.py --out runs/robustness --only flip

Ten sites of digits at 14x14, dealt alike; site-01 does not run the agreed training. Its inputs are
masked and summed like all others, so that nobody sees which site lies. It knows the terms: where it
is bounded, it enters as much as the bounds let through.

    none        all are honest
    absent      nine honest sites: what the tenth is worth
    flip        its update backwards
    replace     backwards, and so long that nine honest ones together are undone
    noise       random numbers of the largest length that the sum's bounds let pass
    labels      trained on wrong labels
    mark        trained on digits with a white square, to make the model draw squares
    mark-long   the same, times ten

Each with the clip norm that ordinary training does not reach (the default), and with a tight one.
"groups" asks what three sums of five sites each, dealt anew every round, would bring: the server
takes the median of their means, coordinate by coordinate. No setting does that (an input would hide
among five, and no site could compute the model from its own sum alone): the sums are made here from
updates in the clear, of 15 sites, for the four attacks that change updates.

Finished runs are kept; docs/results/robustness.csv has a row for each.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phoenix_secure.config_file import load_config
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.secagg.terms import SecureTerms
from phoenix_secure.federation.server import plaintext_round
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.federation.site import site_input
from phoenix_secure.federation.site.worker import SiteWorker
from phoenix_secure.files import write_bytes
from phoenix_secure.metrics.classifier import Classifier, load_classifier, train_classifier
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.local import LocalUpdate

LIAR, NUM_SITES, SQUARE, GROUP = "site-01", 10, 4, 5
COLUMNS = (
    "attack",
    "defence",
    "seed",
    "kid",
    "recall",
    "read",
    "marked",
    "refused",
    "rounds",
)
BASE = [
    *("data.name=mnist-5k", "data.image_size=14"),
    *("partition.scheme=iid", "model.block_channels=[16,32]", "model.attention=[false,false]"),
    *("model.mid_attention=false", "model.layers_per_block=1", "model.class_conditional=true"),
    *("diffusion.prediction=v", "sampling.sampler=dpm-solver", "sampling.num_steps=15"),
    *("training.batch_size=32", "training.learning_rate=0.003", "training.warmup_steps=0"),
    *("training.lr_decay=none", "training.local_steps=10", "federation.rounds=60"),
    *("ema.decay=0.9", "federation.workers=1", "output.samples_every_rounds=0", "device=cpu"),
    *("evaluation.num_images=500", "output.num_samples=100"),
]
ATTACKS = ("none", "absent", "flip", "replace", "noise", "labels", "mark", "mark-long")
DEFENCES = {
    "default": [f"partition.num_sites={NUM_SITES}"],
    "tight": [f"partition.num_sites={NUM_SITES}", "secure_aggregation.clip_norm=1.5"],
    "groups": [f"partition.num_sites={3 * GROUP}", "secure_aggregation.mode=off"],
}
Change = Callable[[np.ndarray, float], np.ndarray]


def backwards(update: np.ndarray, clip_norm: float) -> np.ndarray:
    return -update


def undo(update: np.ndarray, clip_norm: float) -> np.ndarray:
    return -(NUM_SITES + 1) * update


def longer(update: np.ndarray, clip_norm: float) -> np.ndarray:
    return NUM_SITES * update


def noise(update: np.ndarray, clip_norm: float) -> np.ndarray:
    """Half of all sites' clip norms together: what the sum over honest ones leaves room for."""
    drawn = np.random.default_rng(0).normal(size=update.size)
    return drawn * (0.5 * NUM_SITES * clip_norm / np.linalg.norm(drawn))


CHANGES: dict[str, Change] = {
    "flip": backwards,
    "replace": undo,
    "noise": noise,
    "mark-long": longer,
}


class WithLiar(SimulatedSites):
    """A simulation whose first site lies about its images, its update, or is away."""

    def __init__(self, attack: str, overrides: list[str]) -> None:
        super().__init__(load_config(None, overrides), cache_dir=default_cache_dir())
        images, own = self.partition.image_set, self.partition.parts[LIAR]
        pixels, labels = images.images.copy(), images.labels.copy()
        if attack == "labels":
            labels[own] = (labels[own] + 1) % images.num_classes
        if attack.startswith("mark"):
            pixels[own, :, :SQUARE, :SQUARE] = 255
        changed = dataclasses.replace(images, images=pixels, labels=labels)
        # Quality is measured against the images as they are: the evaluator has them already.
        self.partition = dataclasses.replace(self.partition, image_set=changed)


def lie(attack: str) -> Callable[[], None]:
    """Let the liar's process train and encode in its own way; returns how to stop it."""
    train, encode = SiteWorker._train, site_input.encode_update

    def lying_train(self: SiteWorker, request: Any) -> LocalUpdate:
        update = train(self, request)
        if self._name != LIAR:
            return update
        if attack == "absent":
            return dataclasses.replace(update, delta=np.zeros_like(update.delta), num_images=1)
        change = CHANGES.get(attack)
        if change is None:
            return update
        # In the clear nothing bounds a site; what it sends is as long as where sums are secure.
        clip_norm = 0.05 * update.delta.size**0.5
        if self._secure is not None:
            clip_norm = self._secure._terms.clip_norm
        delta = change(update.delta.astype(np.float64), clip_norm).astype(np.float32)
        return dataclasses.replace(update, delta=delta)

    def unbounded(update: LocalUpdate, *, terms: SecureTerms, **given: Any) -> Any:
        """The agreed encoding, with the bounds of the sum in place of those of one site."""
        norm = float(np.linalg.norm(update.delta))
        if attack in CHANGES and norm > terms.clip_norm:
            room = 0.5 * NUM_SITES * terms.clip_norm
            terms = dataclasses.replace(terms, clip_norm=max(room, terms.clip_norm))
        return encode(update, terms=terms, **given)

    SiteWorker._train = lying_train  # type: ignore[method-assign]
    site_input.encode_update = unbounded  # type: ignore[assignment]

    def stop() -> None:
        SiteWorker._train = train  # type: ignore[method-assign]
        site_input.encode_update = encode

    return stop


@contextlib.contextmanager
def median_of_groups(seed: int) -> Iterator[None]:
    """Let the server's mean be the median of the means of groups, dealt anew every round."""
    rng, mean = np.random.default_rng(seed), plaintext_round.mean_update

    def of_groups(deltas: list[np.ndarray], weights: list[float]) -> np.ndarray:
        order = rng.permutation(len(deltas)).reshape(-1, GROUP)
        means = [mean([deltas[i] for i in each], [weights[i] for i in each]) for each in order]
        found: np.ndarray = np.median(means, axis=0)
        return found

    plaintext_round.mean_update = of_groups  # type: ignore[assignment]
    try:
        yield
    finally:
        plaintext_round.mean_update = mean  # type: ignore[assignment]


def measure(attack: str, defence: str, folder: Path, *, seed: int) -> dict[str, Any]:
    """The row of one run; read from its folder where it is finished."""
    kept = folder / "measured.json"
    if kept.exists():
        return json.loads(kept.read_text())
    overrides = [*BASE, *DEFENCES[defence], f"seed={seed}"]
    groups = median_of_groups(seed) if defence == "groups" else contextlib.nullcontext()
    sites, refused = WithLiar(attack, overrides), False
    run, federation = RunFolder(folder), Run(sites)
    stop = lie(attack)
    try:
        with run.lock(), groups:
            try:
                start = federation.start(run, overwrite=folder.exists())
                num_rounds = len(list(federation.rounds(start, run)))
            except TrainingError:  # a sum that no honest sites enter
                refused, num_rounds = True, 0
    finally:
        stop()
    row = {"attack": attack, "defence": defence, "seed": seed, "refused": int(refused)}
    if not refused:
        row |= {"rounds": num_rounds} | quality(sites, run, folder.parent)
    write_bytes(kept, json.dumps(row).encode())
    return row


def quality(sites: WithLiar, run: RunFolder, cache: Path) -> dict[str, Any]:
    """Against the images as they are: also, how many samples read as the class asked for."""
    assert sites.evaluator is not None
    sites.model.use(run.load_state(config=sites.config))
    found = sites.evaluator.quality_of(sites.model)["rows"]["generated"]
    drawn = sites.model.sample(500, purpose="reading")  # classes in turn
    corner = drawn[:, :, :SQUARE, :SQUARE].mean(axis=(1, 2, 3))
    right = reader(sites, cache).accuracy(drawn, labels=np.arange(500) % 10)
    return {
        "kid": round(found["kid"], 3),
        "recall": round(found["recall"], 3),
        "read": round(right, 3),
        "marked": round(float((corner > 0).mean()), 3),
    }


def reader(sites: WithLiar, cache: Path) -> Classifier:
    """A classifier of real images that no site holds."""
    path = cache / "classifier.safetensors"
    if not path.exists():
        split, images = sites.partition.split, sites.partition.image_set
        unseen = images.take(np.concatenate([split.held_out, split.reference]))
        train_classifier(
            to_unit_range(unseen.images),
            labels=unseen.labels,
            num_classes=unseen.num_classes,
            dataset=unseen.name,
            generator=SeedTree(0).child("classifier").torch(),
            device=torch.device("cpu"),
            epochs=15,
        ).save(path)
    return load_classifier(path, device=torch.device("cpu"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--only", default="", help="attacks whose name begins with this")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--csv", type=Path, default=Path("docs/results/robustness.csv"))
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows = []
    for defence in DEFENCES:
        for attack in ATTACKS if defence != "groups" else ("none", *CHANGES):
            folder = given.out / f"{attack}-{defence}-{given.seed}"
            if not attack.startswith(given.only) and not (folder / "measured.json").exists():
                continue
            rows.append(measure(attack, defence, folder, seed=given.seed))
            print(rows[-1], flush=True)
            given.csv.parent.mkdir(parents=True, exist_ok=True)
            with given.csv.open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()
