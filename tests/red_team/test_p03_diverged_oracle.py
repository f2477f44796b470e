"""A model as a question: weights with which the images of one class overflow, and no others.

The attack of the case: the server asks one site to train from such weights and reads the answer to
the announcement. Until 0.1.0 it was keys where the site has no image of the class, and the code
``diverged`` where it has one: a bit about one site's images for each question, nothing signed, no
colluder, and any number of questions in one round.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from phoenix_secure.config_file import load_config
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.round.messages import SecureTrainRequest, TrainRequest
from phoenix_secure.federation.secagg.payload import Payload
from phoenix_secure.federation.site.worker import SiteWorker
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.local import LocalTrainer, LocalUpdate
from phoenix_secure.training.parameters import to_vector
from phoenix_secure.training.steps import Cancelled
from protocol.messages import RoundAnnouncement, seal

SETTINGS = [
    "model.block_channels=[8,8]",
    "model.attention=[false,false]",
    "model.mid_attention=false",
    "model.layers_per_block=1",
    "model.norm_groups=4",
    "model.class_conditional=true",
    "training.batch_size=8",
    "training.local_steps=2",
    "training.label_dropout=0",
    "secure_aggregation.max_images=64",
]
CLASS = 3
NUM_CLASSES = 10


def asks_for(wanted: int) -> np.ndarray:
    """Finite weights with which a batch that holds the class ``wanted`` becomes NaN."""
    config = load_config(None, SETTINGS)
    network = build_unet(
        config.model, image_size=8, channels=1, num_classes=NUM_CLASSES, seeds=SeedTree(0)
    )
    with torch.no_grad():
        network.class_embedding.weight[wanted] = 3e38
    return to_vector(network)


ATTACK = asks_for(CLASS)


def images_of(*classes: int) -> SiteImages:
    digits = load_digits()
    chosen = np.flatnonzero(np.isin(digits.labels, classes))[:40]
    return SiteImages(images=digits.images[chosen], labels=digits.labels[chosen])


WITHOUT, WITH = images_of(0, 1, 2), images_of(0, 1, 2, CLASS)


class Federation:
    """Five real sites that train on digits, and a server that may ask what it likes."""

    def __init__(self, secure_parties, path: Path, images: list[SiteImages], *more: str) -> None:
        self.parties = secure_parties.Parties(path, *SETTINGS, *more, num_parameters=ATTACK.size)
        self.workers = {
            name: SiteWorker(
                name,
                images=own,
                trainer=LocalTrainer(
                    self.parties.config, num_classes=NUM_CLASSES, device=torch.device("cpu")
                ),
                seeds=SeedTree(0),
                cancelled=threading.Event(),
                secure=self.parties.sites[name].secure,
            )
            for name, own in zip(self.parties.names, images, strict=True)
        }
        for name, site in self.parties.sites.items():
            site.handle = self.workers[name].handle

    def offer(self, weights: np.ndarray, *, attempt: int = 0, training_round: int = 1) -> bytes:
        parties = self.parties
        model = TrainRequest(round_number=training_round, parameters=weights).to_bytes()
        spec = parties.terms.spec(
            roster=parties.roster,
            cohort=parties.names,
            protocol_round=1,
            model=model,
            previous=bytes(32),
        )
        spec = dataclasses.replace(spec, attempt=attempt)
        announcement = seal(
            parties.server,
            label=RoundAnnouncement.LABEL,
            context=spec.context,
            body=RoundAnnouncement(spec=spec).encode(),
        )
        return SecureTrainRequest(announcement=announcement, model=model).to_bytes()

    def asked(self, site: str, offer: bytes) -> str:
        """What the server can tell of the answer: a code, or that there are so many bytes."""
        try:
            return f"{len(self.workers[site].handle('announce', offer))} bytes"
        except SiteFailure as failure:
            return failure.code.value


def failures(caplog: pytest.LogCaptureFixture) -> int:
    return sum("enters zeros" in record.getMessage() for record in caplog.records)


def test_the_answer_is_the_same_whether_the_training_diverged(
    secure_parties, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worlds = [WITHOUT, WITH, WITHOUT, WITH, WITH]
    federation = Federation(secure_parties, tmp_path, worlds)
    answers = {
        federation.asked(site, federation.offer(ATTACK, attempt=attempt))
        for site in federation.workers
        for attempt in range(2)
    }
    assert len(answers) == 1
    # The model does ask: at the three sites with the class, and there alone, the owner reads so.
    assert failures(caplog) == 3
    assert {"site-02", "site-04", "site-05"} == {
        name for name in federation.workers if f"{name}: training round 1 failed" in caplog.text
    }


def test_a_second_question_in_a_round_is_not_answered(
    secure_parties, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing was signed; the site's memory was lost in between."""
    federation = Federation(secure_parties, tmp_path, [WITH] * 5)
    first = federation.offer(ATTACK)
    assert federation.asked("site-01", first).endswith("bytes")
    other = federation.offer(asks_for(CLASS + 1), attempt=1)
    assert federation.asked("site-01", other) == "refused"
    federation.parties.sites["site-01"].restart()
    federation.workers["site-01"]._secure = federation.parties.sites["site-01"].secure
    assert federation.asked("site-01", other) == "refused"
    again = federation.offer(ATTACK, attempt=1)
    assert federation.asked("site-01", again).endswith("bytes")
    assert failures(caplog) == 2  # the same question twice, and no other


def test_the_sum_counts_failures_and_names_nobody(secure_parties, tmp_path: Path) -> None:
    federation = Federation(secure_parties, tmp_path, [WITHOUT, WITH, *[WITHOUT] * 3])
    found = federation.parties.sum(parameters=ATTACK)
    assert found.sites == federation.parties.names
    assert found.failures == {}
    assert found.num_failed == found.secure.failed == 1
    assert found.num_images == 4 * 40
    assert found.num_steps == 4 * 2
    lengths = {stage: set() for stage, _, _ in federation.parties.engine.received}
    for stage, _, reply in federation.parties.engine.received:
        lengths[stage].add(len(reply))
    assert all(len(sizes) == 1 for sizes in lengths.values())


def test_a_round_in_which_too_few_trained_stops_the_run(secure_parties, tmp_path: Path) -> None:
    federation = Federation(secure_parties, tmp_path, [WITHOUT, WITH, WITHOUT, WITH, WITHOUT])
    with pytest.raises(TrainingError, match="the training of 2 of 5 sites failed") as caught:
        federation.parties.sum(parameters=ATTACK)
    assert "lower training.learning_rate" in str(caught.value)
    assert not any(name in str(caught.value) for name in federation.parties.names)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory"), KeyError(1)])
def test_whatever_ends_a_training_enters_zeros_with_weight_zero(
    secure_parties, tmp_path: Path, error: Exception
) -> None:
    parties = secure_parties.Parties(tmp_path)
    noted: list[tuple] = []
    secure = parties.sites["site-02"].secure
    secure._input = dataclasses.replace(
        secure._input, note=lambda event, **facts: noted.append((event, facts))
    )
    parties.sites["site-02"].train = raises(error)
    found = parties.sum()
    assert noted == [("training-failed", {"why": f"round 1: {type(error).__name__}"})]
    others = tuple(name for name in parties.names if name != "site-02")
    np.testing.assert_array_equal(found.update, parties.oracle(others))
    assert (found.sites, found.num_failed) == (parties.names, 1)


def raises(error: Exception) -> Callable:
    def train(request):
        raise error

    return train


def entered(parties, monkeypatch: pytest.MonkeyPatch) -> list[Payload]:
    """Whatever site-02 hands to the protocol from now on."""
    secure, found = parties.sites["site-02"].secure, []
    make = secure._payload

    def payload(*arguments) -> Payload:
        found.append(make(*arguments))
        return found[-1]

    monkeypatch.setattr(secure, "_payload", payload)
    return found


def test_a_failure_stays_one_when_the_round_is_repeated(secure_parties, tmp_path: Path) -> None:
    """Else the second sum minus the first would be the site's own update."""
    parties = secure_parties.Parties(tmp_path)
    site = parties.sites["site-02"]
    train, site.train = site.train, raises(MemoryError())
    first = parties.sum()
    site.train = train
    for each in parties.sites.values():
        each.restart()
    second = parties.sum()
    np.testing.assert_array_equal(first.update, second.update)
    assert parties.sum(2).num_failed == 0


def test_a_training_that_fails_when_it_is_repeated_enters_no_zeros(
    secure_parties, tmp_path: Path
) -> None:
    parties = secure_parties.Parties(tmp_path)
    parties.sum()
    for each in parties.sites.values():
        each.restart()
    parties.sites["site-02"].train = raises(MemoryError())
    parties.stages.clear()
    with pytest.raises(TrainingError, match="no secure sum"):  # it would be over four of the five
        parties.sum(max_attempts=1)
    assert parties.stages[0].failures == {"site-02": "error"}


def test_a_failure_under_unit_site_is_noised_and_not_counted(
    secure_parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = ("privacy.unit=site", "privacy.noise_multiplier=0.5")
    words = ("secure_aggregation.word_bits=32", "training.local_steps=4")
    parties = secure_parties.Parties(tmp_path, *private, *words)
    own = entered(parties, monkeypatch)
    parties.sites["site-02"].secure._input = dataclasses.replace(
        parties.sites["site-02"].secure._input, local_steps=4
    )
    parties.sites["site-02"].train = raises(MemoryError())
    found = parties.sum()
    assert (found.num_failed, found.secure.failed, found.num_steps) == (0, None, 5 * 4)
    assert not own[0].words.any()
    assert own[0].noise.any()


class Steps:
    """A trainer whose local steps take no time, or for ever; both end as the real one does."""

    def __init__(self, num_steps: float) -> None:
        self.num_steps = num_steps

    def train(self, vector, site, *, cancelled: Callable[[], bool], **_) -> LocalUpdate:
        done = 0
        while done < self.num_steps:
            if cancelled():
                raise Cancelled
            time.sleep(0.01)
            done += 1
        return LocalUpdate(
            delta=np.zeros_like(vector), num_images=8, num_steps=1, loss=0.0, seconds=0.0
        )


@pytest.mark.long
def test_an_answer_leaves_when_the_plan_says(
    secure_parties, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether a training ends at once, in time, or would go on for ever."""
    seconds = []
    for number, num_steps in enumerate((0, 5, math.inf)):
        federation = Federation(secure_parties, tmp_path / str(number), [WITHOUT] * 5)
        worker = federation.workers["site-01"]
        worker._trainer, worker._reply_after_s = Steps(num_steps), 0.4
        offer = federation.offer(ATTACK)
        started = time.monotonic()
        assert federation.asked("site-01", offer).endswith("bytes")
        seconds.append(time.monotonic() - started)
    assert min(seconds) >= 0.4
    assert max(seconds) < 0.4 + 0.8  # a busy machine's share
    assert failures(caplog) == 1
    assert "took more than secure_aggregation.reply_after_s = 0.4 s" in caplog.text
