"""Each site's model against images of its own kind that nobody trained on: whose is best for whom?

    phoenix-secure data fetch fashion-mnist
    python benchmarks/personalization.py --out runs/non_iid             # half an hour of one core
    python benchmarks/personalization.py --out runs/non_iid --split dirichlet-0.1

Ten sites, as in benchmarks/non_iid.py, whose finished runs in --out are used (or made):

    global           the one model of all
    personal         its last layers each site's own (`exchange.personal`)
    fine-tuned       the global model after 50 more steps at the site
    personal-tuned   the same from the model with personal last layers
    alone            800 steps at the site, of no federation

A site's kind: images of the published test part with the site's shares of classes. KID of 200
samples to 200 such images; the mean over sites, and the worst site.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phoenix_secure.data.images import to_unit_range
from phoenix_secure.files import write_bytes

COLUMNS = ("dataset", "split", "model", "seed", "kid_mean", "kid_worst", "worst_site", "command")
NUM_JUDGED, FINE_TUNING, ALONE, STEPS_PER_ROUND = 200, 50, 800, 40
Vectors = Callable[[str], np.ndarray]


def images_like(
    labels: np.ndarray, *, of: np.ndarray, rng: np.random.Generator, size: int
) -> np.ndarray:
    """``size`` places in ``of`` (labels of held-out images) with the class shares of ``labels``."""
    wanted = rng.choice(labels, size=size)
    places = np.empty(size, np.int64)
    for label in np.unique(wanted):
        there = np.flatnonzero(of == label)
        chosen = wanted == label
        places[chosen] = rng.choice(there, size=chosen.sum(), replace=chosen.sum() > len(there))
    return places


class Sites:
    """The sites of a finished run: their kinds of image, and models trained further at them."""

    def __init__(self, folder: Path, overrides: list[str]) -> None:
        from strategies_measure import CONFIG, _extractor, measure

        from phoenix_secure.config_file import load_config
        from phoenix_secure.data.cache import default_cache_dir
        from phoenix_secure.federation.run.folder import RunFolder
        from phoenix_secure.federation.server.run import Run
        from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites

        measure(folder, overrides)
        self.config = load_config(CONFIG, overrides)
        self._features = _extractor()
        backend = Run(SimulatedSites(self.config, cache_dir=default_cache_dir())).backend
        run = RunFolder(folder)
        self._backend, self.names = backend, backend.sites
        self.state = run.load_state(config=self.config)
        self._personal = backend.personal_models(run, self.state)

    def shared(self, site: str) -> np.ndarray:
        """The average of the global model; with the site's own layers where there are some."""
        state = self.state if self._personal is None else self._personal.state_of(site)
        return state.ema if self.config.ema.decay > 0 else state.parameters

    def trained(self, site: str, start: np.ndarray, *, steps: int) -> np.ndarray:
        """The average of ``start`` trained by the site alone, with its schedule to the end."""
        from phoenix_secure.diffusion.ema import ema_decay, update_ema
        from phoenix_secure.rng import SeedTree
        from phoenix_secure.training.local import LocalTrainer

        rounds, length = max(1, steps // STEPS_PER_ROUND), min(steps, STEPS_PER_ROUND)
        federation = self.config.federation.model_copy(update={"rounds": rounds})
        training = self.config.training.model_copy(update={"local_steps": length})
        config = self.config.model_copy(update={"federation": federation, "training": training})
        trainer = LocalTrainer(config, num_classes=10, device=torch.device("cpu"))
        images, seeds = self._backend.partition.site_images(site), SeedTree(self.config.seed)
        weights, average = start, start
        for number in range(1, rounds + 1):
            own = seeds.child("own", site, "round", number)
            weights = weights + trainer.train(weights, images, round_number=number, seeds=own).delta
            decay = ema_decay(config.ema, num_updates=number - 1, steps_per_round=length)
            average = update_ema(average, weights, decay=decay)
        return average

    def start(self) -> np.ndarray:
        return self._backend.strategies.start_vector()

    def kid(self, site: str, vector: np.ndarray) -> float:
        """KID of a model's samples to images of the site's kind."""
        from phoenix_secure.metrics.kernel_distance import kernel_distance

        partition = self._backend.partition
        everything = partition.image_set
        held_out = everything.take(partition.split.reference)
        own = everything.take(partition.parts[site]).labels
        rng = np.random.default_rng(0)
        places = images_like(own, of=held_out.labels, rng=rng, size=NUM_JUDGED)
        self._backend.model.use_vector(vector)
        drawn = self._backend.model.sample(NUM_JUDGED, purpose=f"evaluation/{site}")
        real = self._features(to_unit_range(held_out.take(places).images))
        found, _ = kernel_distance(
            self._features(drawn), real, subset_size=NUM_JUDGED // 2, num_subsets=50, rng=rng
        )
        return found


def models(
    out: Path, *, dataset: str, split: str, seed: int
) -> Iterator[tuple[str, Sites, Vectors]]:
    from non_iid import Case

    found = {}
    for strategy in ("fedavg", "personal"):
        case = Case(dataset=dataset, split=split, local_steps=20, strategy=strategy, seed=seed)
        folder = out / dataset / f"800-{case.name.replace('/', '-')}"
        found[strategy] = Sites(folder, case.settings(steps=800, release=None))
    plain, personal = found["fedavg"], found["personal"]
    yield "global", plain, plain.shared
    yield "personal", personal, personal.shared

    def tuned(sites: Sites) -> Vectors:
        return lambda site: sites.trained(site, sites.shared(site), steps=FINE_TUNING)

    yield "fine-tuned", plain, tuned(plain)
    yield "personal-tuned", personal, tuned(personal)
    yield "alone", plain, lambda site: plain.trained(site, plain.start(), steps=ALONE)


def row_of(name: str, kids: dict[str, float], *, given: Any) -> dict[str, Any]:
    worst = max(kids, key=lambda site: kids[site])
    return {
        "dataset": given.dataset,
        "split": given.split,
        "model": name,
        "seed": given.seed,
        "kid_mean": round(float(np.mean(list(kids.values()))), 3),
        "kid_worst": round(kids[worst], 3),
        "worst_site": worst,
        "command": f"python benchmarks/personalization.py --dataset {given.dataset} --split "
        f"{given.split} --seed {given.seed}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/non_iid"))
    parser.add_argument("--dataset", choices=("fashion-mnist", "mnist"), default="fashion-mnist")
    parser.add_argument("--split", default="shards", help="as benchmarks/non_iid.py names them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--csv", type=Path, default=Path("docs/results/personalization.csv"))
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows: list[dict[str, Any]] = []
    if given.csv.exists():
        with given.csv.open(newline="") as file:
            rows = list(csv.DictReader(file))
    (given.out / given.dataset).mkdir(parents=True, exist_ok=True)
    for name, sites, vector_of in models(
        given.out, dataset=given.dataset, split=given.split, seed=given.seed
    ):
        kids = {site: sites.kid(site, vector_of(site)) for site in sites.names}
        row = row_of(name, kids, given=given)
        key = (row["model"], row["command"])
        rows = [old for old in rows if (old["model"], old["command"]) != key] + [row]
        text = [",".join(COLUMNS), *(",".join(str(each[c]) for c in COLUMNS) for each in rows)]
        given.csv.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(given.csv, ("\n".join(text) + "\n").encode())
        print(
            f"{name}: KID {row['kid_mean']}, worst {row['kid_worst']} at {row['worst_site']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
