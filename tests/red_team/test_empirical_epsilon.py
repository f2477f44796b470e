"""What a site's answers prove about its epsilon: pictures in a folder in, bytes out, counted.

The adversary of the definition. He knows the other pictures, the split's key and the plan, and asks
for one round after the other with weights of zero. Then every gradient but that of the output's
bias is zero, and of that one a white picture's is exactly one clip norm long: the worst case of
DP-SGD's analysis, out of crafted weights. He says "the picture is there" above a threshold, and the
audit's own estimator turns his errors into a bound on epsilon. Two thresholds are fixed beforehand,
and share the five percent in which a bound may be false.

A bound from below is no use unless it can be high: the same attack on a site whose noise is a tenth
of what its ledger says must prove a tenth of the epsilon that this site really has, at least. That
is more than the epsilon that it claims, so that the fault is found.

Under unit group the neighbour is a person with sixteen white pictures, and the fault is to clip
each of them: what she moves is then up to sixteen clip norms, where one is accounted.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attacks.epsilon.independent import epsilon_from_counts
from own_folder import PERSONS, OwnFolderSite
from phoenix_secure.data.groups import group_number
from phoenix_secure.data.keyed_split import group_tags, image_tags, keyed_roles
from phoenix_secure.data.split import MEMBER
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.federation.round.messages import TrainReply, TrainRequest
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.secagg.privacy_plan import plan_privacy
from phoenix_secure.federation.site import privacy as site_privacy
from phoenix_secure.privacy.accounting import epsilon_of
from phoenix_secure.privacy.calibration import noise_multiplier_for
from phoenix_secure.privacy.events import PoissonSampledGaussian
from phoenix_secure.privacy.person_means import PersonMeans
from phoenix_secure.rng import SeedTree
from phoenix_secure.secret_files import write_secret
from phoenix_secure.training.private import PrivateTrainer

CLAIM, DELTA = 1.0, 1e-5
# Answers with the picture and without. By the law of the noise, a seed falls short of a tenth of
# the truth, or a true claim looks false, once in 10,000.
MANY, FEW = (80, 200), (20, 40)
THRESHOLD = 2.2  # standard deviations of the noise above its mean
NOISES = (1.0, 0.1)  # of the noise that the ledger says: where a fault would show
CLIP_NORM = 1e-4
WHITE, BLACK = np.full((8, 8), 255, np.uint8), np.zeros((8, 8), np.uint8)
SETTINGS = [
    *("model.block_channels=[4]", "model.attention=[false]", "model.mid_attention=false"),
    *("model.layers_per_block=1", "model.norm_groups=2", "diffusion.prediction=v"),
    *("training.batch_size=1", "training.local_steps=1", "training.optimizer=sgd"),
    *("training.learning_rate=1", "training.lr_decay=none", "training.warmup_steps=0"),
    *(f"privacy.clip_norm={CLIP_NORM}", "privacy.noise_draws=4"),
    *("secure_aggregation.mode=off", f"federation.rounds={max(MANY)}"),
]
# Even seeds: one picture, sampled, or an empty folder. Odd ones: a black picture beside it.
SEEDS = range(20)
CLAIMS = [
    pytest.param(seed, FEW, id=f"{seed}-few", marks=[pytest.mark.slow] if seed else [])
    for seed in (0, 2, 4)
]
CLAIMS += [pytest.param(seed, MANY, id=f"{seed}", marks=pytest.mark.slow) for seed in SEEDS]
FAULTS = [pytest.param(seed, marks=[pytest.mark.slow] if seed else []) for seed in SEEDS]


class Game:
    """Two sites with neighbouring folders, under one plan and one key of the split.

    by_person    the picture is sixteen, of one person, and those in company are three, of another
    """

    def __init__(self, root: Path, *, seed: int, by_person: bool = False) -> None:
        company = [BLACK] if seed % 2 else []
        self.rate = 1.0 if company else 0.9
        self.base = -len(company)  # clip norms that the others add, each time
        self.noise = noise_multiplier_for(
            epsilon=CLAIM, delta=DELTA, sampling_rate=self.rate, steps=1
        )
        unit, most = ["privacy.unit=record"], 1 + len(company)
        key = key_for([WHITE, *company], seed=seed)
        if by_person:
            unit = ["privacy.unit=group", "privacy.images_per_group=16", *PERSONS]
            unit += ["privacy.noise_draws=1"]  # sixteen pictures are as many draws
            most, key = 20, key_for_persons(["her", "him"], seed=seed)
        white, black = ([WHITE] * 16, company * 3) if by_person else ([WHITE], company)
        persons = ["her"] * len(white) + ["him"] * len(black) if by_person else None
        self.with_it = OwnFolderSite(root, images=[*white, *black], persons=persons, name="site-01")
        self.without = OwnFolderSite(
            root, images=black, persons=persons and persons[len(white) :], name="site-02"
        )
        for site in (self.with_it, self.without):
            write_secret(site.folder.split_key, key)
        self.plan: Plan = self.with_it.plan(
            *SETTINGS,
            *unit,
            f"seed={seed}",
            f"privacy.noise_multiplier={self.noise}",
            f"privacy.sampling_rate={self.rate}",
            f"privacy.physical_batch={most}",
        )

    def epsilon_lower(self, *, num_in: int, num_out: int) -> float:
        """What the answers prove at 95 %."""
        inside, outside = self._scores(self.with_it, num_in), self._scores(self.without, num_out)
        thresholds = [self.base + THRESHOLD * part * self.noise for part in NOISES]
        return max(
            epsilon_from_counts(
                false_positives=int((outside >= threshold).sum()),
                num_out=num_out,
                false_negatives=int((inside < threshold).sum()),
                num_in=num_in,
                delta=DELTA,
                confidence=1 - 0.05 / len(thresholds),
            )
            for threshold in thresholds
        )

    def claimed(self) -> float:
        """Epsilon of one release, by the event that the site's ledger gets."""
        private = plan_privacy(self.plan.config, terms=None)
        assert private is not None
        return epsilon_of([private.event], delta=DELTA).value

    def _scores(self, site: OwnFolderSite, num: int) -> np.ndarray:
        """The sum of the clipped gradients in the bias, noise included, in clip norms: (num,)."""
        config = self.plan.config
        network = build_unet(
            config.model, image_size=8, channels=1, num_classes=0, seeds=SeedTree(0)
        )
        assert list(dict(network.named_parameters()))[-1] == "conv_out.bias"
        size = sum(parameter.numel() for parameter in network.parameters())
        ask, weights = site.install(self.plan), np.zeros(size, np.float32)
        scores = []
        for number in range(1, num + 1):
            body = ask("train", TrainRequest(round_number=number, parameters=weights).to_bytes())
            reply = TrainReply.from_bytes(body, round_number=number, num_parameters=size)
            scores.append(-reply.delta[-1] / CLIP_NORM)
        return np.array(scores)


def key_for(pictures: list[np.ndarray], *, seed: int) -> bytes:
    """A key of the split under which all ``pictures`` are members."""
    images = np.stack(pictures)[:, None]
    for number in range(1000):
        key = SeedTree(seed).child("split", number).entropy().to_bytes(32, "big")
        if (keyed_roles(image_tags(images, key=key), held_out=0.2, reference=0.1) == MEMBER).all():
            return key
    raise AssertionError("no key in a thousand")


def key_for_persons(names: list[str], *, seed: int) -> bytes:
    """A key of the split under which all pictures of the persons ``names`` are members."""
    for number in range(1000):
        key = SeedTree(seed).child("split", number).entropy().to_bytes(32, "big")
        groups = np.array([group_number(name, key=key) for name in names], np.int64)
        if (keyed_roles(group_tags(groups, key=key), held_out=0.2, reference=0.1) == MEMBER).all():
            return key
    raise AssertionError("no key in a thousand")


@pytest.mark.long
@pytest.mark.parametrize(("seed", "answers"), CLAIMS)
def test_no_answers_prove_more_than_the_site_claims(
    seed: int, answers: tuple[int, int], tmp_path: Path
) -> None:
    game = Game(tmp_path, seed=seed)
    found = game.epsilon_lower(num_in=answers[0], num_out=answers[1])
    print(f"seed {seed}: {found:.3f} of {game.claimed():.3f}")  # noqa: T201
    assert found <= game.claimed() <= CLAIM


@pytest.mark.long
@pytest.mark.parametrize("seed", FAULTS)
def test_a_tenth_of_the_noise_is_found_out(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    game = Game(tmp_path, seed=seed)
    noise = game.noise / 10

    def faulty(config: object, **rest: object) -> PrivateTrainer:
        return PrivateTrainer(config, **(rest | {"noise_multiplier": noise}))  # type: ignore[arg-type]

    monkeypatch.setattr(site_privacy, "PrivateTrainer", faulty)
    event = PoissonSampledGaussian(sampling_rate=game.rate, noise_multiplier=noise, steps=1)
    truth = epsilon_of([event], delta=DELTA).value
    found = game.epsilon_lower(num_in=MANY[0], num_out=MANY[1])
    print(f"seed {seed}: {found:.3f} of {truth:.3f}, claimed {game.claimed():.3f}")  # noqa: T201
    assert truth / 10 < found < truth
    assert found > game.claimed()


@pytest.mark.long
@pytest.mark.parametrize(("seed", "answers"), [CLAIMS[0], *CLAIMS[3:]])
def test_no_answers_prove_more_of_a_person_than_the_site_claims(
    seed: int, answers: tuple[int, int], tmp_path: Path
) -> None:
    game = Game(tmp_path, seed=seed, by_person=True)
    found = game.epsilon_lower(num_in=answers[0], num_out=answers[1])
    print(f"seed {seed}: {found:.3f} of {game.claimed():.3f}")  # noqa: T201
    assert found <= game.claimed() <= CLAIM


@pytest.mark.parametrize("seed", FAULTS)
def test_clipping_the_pictures_of_a_person_one_by_one_is_found_out(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    game = Game(tmp_path, seed=seed, by_person=True)
    monkeypatch.setattr(
        PersonMeans, "take", lambda self, samples, num_images: (samples, num_images)
    )
    answers = MANY if seed else FEW
    found = game.epsilon_lower(num_in=answers[0], num_out=answers[1])
    print(f"seed {seed}: {found:.3f} proven, claimed {game.claimed():.3f}")  # noqa: T201
    assert found > game.claimed()
