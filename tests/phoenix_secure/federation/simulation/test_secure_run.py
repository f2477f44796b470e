"""Real training under secure aggregation: the oracle's weights, whatever happens on the way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import CheckpointError, ConfigError
from phoenix_secure.federation.engines.grid import GridEngine
from phoenix_secure.federation.round.aggregate import Aggregate
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.secagg import payload
from phoenix_secure.federation.secagg.payload import encode_update
from phoenix_secure.federation.server.attempt import STAGES
from phoenix_secure.federation.server.rounds import run_rounds
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.local import LocalTrainer


class Killed(BaseException):
    """The process is gone; no handler may catch it."""


class NaiveOracle:
    """The sum once more, without keys and masks: Python integers, one coordinate at a time."""

    def __init__(self, federation: SimulatedSites) -> None:
        self.federation = federation
        images = federation.partition.image_set
        self.trainer = LocalTrainer(
            federation.config, num_classes=images.num_classes, device=torch.device("cpu")
        )

    def members(self) -> tuple[str, ...]:
        return tuple(self.federation.partition.parts)

    def aggregate(self, request: TrainRequest, *, cohort):
        yield from ()
        round_number = request.round_number
        terms, root = self.federation.terms, SeedTree(self.federation.config.seed)
        payloads, updates = [], []
        for site in cohort:
            update = self.trainer.train(
                request.parameters,
                self.federation.partition.site_images(site),
                round_number=round_number,
                seeds=root.child("site", site, "round", round_number),
            )
            key = root.child("site", site, "round", round_number, "rounding").entropy()
            updates.append(update)
            payloads.append(
                encode_update(update, terms=terms, rounding_key=key.to_bytes(32, "big"))
            )
        num_images = sum(update.num_images for update in updates)
        columns = zip(*(payload.words.tolist() for payload in payloads), strict=True)
        scale = terms.max_images / num_images
        mean = np.array([sum(column) / terms.scale * scale for column in columns])
        return Aggregate(
            update=mean,
            loss=0.0,
            sites=cohort,
            failures={},
            num_images=num_images,
            num_steps=sum(update.num_steps for update in updates),
            bytes_down=0,
            bytes_up=0,
        )


def complete(config: RunConfig, path: Path, cache_dir: Path) -> ServerState:
    folder = RunFolder(path)
    federation = Run(SimulatedSites(config, cache_dir=cache_dir))
    for _ in federation.rounds(federation.start(folder, overwrite=False), folder):
        pass
    federation.finish(folder)
    return folder.load_state(config=config)


def same(one: ServerState, two: ServerState) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(two, name))
        for name in ("parameters", "ema", "momentum", "second_moment")
    )


@pytest.fixture(scope="module")
def config(secure_settings: list[str]) -> RunConfig:
    return load_config(None, [*secure_settings, "federation.server_optimizer=fedadam"])


@pytest.fixture(scope="module")
def whole(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run of ``config``; never change it."""
    root = tmp_path_factory.mktemp("whole")
    complete(config, root / "run", root / "cache")
    return RunFolder(root / "run")


def test_final_model_is_that_of_the_naive_oracle_bit_for_bit(
    config: RunConfig, whole: RunFolder, cache_dir: Path
) -> None:
    state = whole.load_state(config=config)
    sites = SimulatedSites(config, cache_dir=cache_dir)
    first = ServerState.initial(sites.model.initial_parameters, federation=config.federation)
    *_, last = run_rounds(
        first, config=config, aggregator=NaiveOracle(sites), seeds=SeedTree(config.seed)
    )
    assert same(state, last.state)
    assert not np.array_equal(state.parameters, first.parameters)


@pytest.mark.long
def test_one_round_is_within_the_stated_bound_of_float_fedavg(
    secure_settings: list[str], tmp_path: Path, cache_dir: Path
) -> None:
    settings = [*secure_settings, "federation.rounds=1"]
    secure = complete(load_config(None, settings), tmp_path / "on", cache_dir)
    clear_config = load_config(None, [*settings, "secure_aggregation.mode=off"])
    clear = complete(clear_config, tmp_path / "off", cache_dir)
    federation = Run(SimulatedSites(load_config(None, settings), cache_dir=cache_dir))
    assert federation.backend.terms is not None
    num_images = sum(len(part) for part in federation.backend.partition.parts.values())
    bound = federation.backend.terms.rounding_bound(num_sites=5, num_images=num_images)
    error = np.abs(secure.parameters.astype(np.float64) - clear.parameters).max()
    # The parameters themselves are float32, of size below 4 here.
    assert 0 < error < bound + 4 * 2**-24
    first, second = (RunFolder(tmp_path / name).read_metrics() for name in ("on", "off"))
    assert first[0]["loss"] == pytest.approx(second[0]["loss"], abs=1e-4)


@pytest.mark.long
@pytest.mark.parametrize(
    "stage",
    [pytest.param(each, marks=[] if each == "mask" else pytest.mark.slow) for each in STAGES],
)
def test_run_killed_in_any_stage_resumes_to_the_same_weights(
    config: RunConfig,
    whole: RunFolder,
    tmp_path: Path,
    cache_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    """The process dies in round 2 when the answers are in; sites lose their memory with it."""
    folder = RunFolder(tmp_path / "cut")
    federation = Run(SimulatedSites(config, cache_dir=cache_dir))
    exchange, seen = GridEngine.exchange, []

    def killed(engine, now: str, *arguments, **more):
        answers = exchange(engine, now, *arguments, **more)
        seen.append(now)
        if seen.count(stage) == 2:
            raise Killed
        return answers

    monkeypatch.setattr(GridEngine, "exchange", killed)
    with pytest.raises(Killed):
        for _ in federation.rounds(federation.start(folder, overwrite=False), folder):
            pass
    monkeypatch.undo()
    again = Run(SimulatedSites(folder.load_config(), cache_dir=cache_dir))
    for _ in again.rounds(again.resume(folder), folder):
        pass
    assert same(folder.load_state(config=config), whole.load_state(config=config))
    lines = folder.read_metrics()
    assert [line["round_number"] for line in lines] == [1, 2, 3]
    # A spent number is not used again: round 2 needed the protocol's round 3.
    assert [line["secure"]["protocol_round"] for line in lines] == [1, 3, 4]


def test_run_is_marked_on_in_metrics_and_summary(config: RunConfig, whole: RunFolder) -> None:
    state = whole.load_state(config=config)
    lines = whole.read_metrics()
    assert all(line["secure_aggregation"] == "on" for line in lines)
    assert len({line["secure"]["transcript"] for line in lines}) == 3
    # 5 sites, 3 bytes a word; keys, shares and signatures beside them, under 3 kB a site.
    beside = [line["bytes_up"] - 5 * 3 * state.parameters.size for line in lines]
    assert all(0 < extra < 15_000 for extra in beside)
    summary = json.loads((whole.path / "summary.json").read_text())
    assert summary["secure_aggregation"] == "on"
    assert (summary["secure"]["t"], summary["secure"]["clipped_updates"]) == (4, 0)


@pytest.mark.long
def test_two_runs_of_one_seed_differ_in_keys_and_agree_in_weights(
    config: RunConfig, whole: RunFolder, tmp_path: Path, cache_dir: Path
) -> None:
    again = RunFolder(tmp_path / "again")
    assert same(complete(config, again.path, cache_dir), whole.load_state(config=config))
    keys = [(run.path / "sites/site-01/identity.key").read_bytes() for run in (whole, again)]
    assert keys[0] != keys[1]
    hashes = [run.read_metrics()[0]["secure"]["transcript"] for run in (whole, again)]
    assert hashes[0] != hashes[1]


def test_lost_promise_or_key_stops_the_resume(
    config: RunConfig, tmp_path: Path, cache_dir: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    federation = Run(SimulatedSites(config, cache_dir=cache_dir))
    rounds = federation.rounds(federation.start(folder, overwrite=False), folder)
    next(rounds)
    rounds.close()
    again = Run(SimulatedSites(config, cache_dir=cache_dir))
    folder.server_rounds.rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=r"server/rounds\.jsonl is missing"):
        next(again.rounds(again.resume(folder), folder))
    (tmp_path / "elsewhere").rename(folder.server_rounds)
    (folder.path / "sites" / "site-03" / "identity.key").unlink()
    with pytest.raises(CheckpointError, match="site-03"):
        next(again.rounds(again.resume(folder), folder))


def test_four_sites_are_refused_before_anything_is_written(
    secure_settings: list[str], tmp_path: Path, cache_dir: Path
) -> None:
    with pytest.raises(ConfigError, match="at least 5 sites"):
        Run(
            SimulatedSites(
                load_config(None, [*secure_settings, "partition.num_sites=4"]), cache_dir=cache_dir
            )
        )
    assert not list(tmp_path.glob("run*"))


def test_patience_may_change_on_resume_and_the_clip_may_not(
    secure_settings: list[str], config: RunConfig, tmp_path: Path, cache_dir: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    Run(SimulatedSites(config, cache_dir=cache_dir)).start(folder, overwrite=False)
    base = [*secure_settings, "federation.server_optimizer=fedadam"]
    patient = load_config(
        None, [*base, "secure_aggregation.max_attempts=9", "secure_aggregation.grace_s=5"]
    )
    assert folder.load_state(config=patient).round_number == 0
    for change in ("clip_norm=1", "word_bits=32", "mode=off", "max_images=7"):
        other = load_config(None, [*base, f"secure_aggregation.{change}"])
        with pytest.raises(CheckpointError, match="other settings"):
            folder.load_state(config=other)


@pytest.mark.long
def test_refused_sum_is_given_up_and_found_in_the_checkpoint(
    secure_settings: list[str], tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is killed in the next round does not go back to the one it gave up."""
    honest = payload.check_sum

    def check(total, *, num_sites: int, **more) -> None:
        if num_sites == 12:
            raise ValueError("as if one lied")
        honest(total, num_sites=num_sites, **more)

    monkeypatch.setattr(payload, "check_sum", check)
    twelve = ["partition.num_sites=12", "secure_aggregation.collusion=0.01", "federation.rounds=2"]
    config = load_config(None, [*secure_settings, *twelve])
    folder = RunFolder(tmp_path / "run")
    run = Run(SimulatedSites(config, cache_dir=cache_dir))
    events = run.events(run.start(folder, overwrite=False), folder)
    next(event for event in events if getattr(event, "training_round", 0) == 2)
    events.close()
    state = folder.load_state(config=config)
    assert state.round_number == 1
    monkeypatch.undo()  # its site was repaired
    again = Run(SimulatedSites(config, cache_dir=cache_dir))
    (report,) = again.rounds(again.resume(folder), folder)
    assert (report.round_number, len(report.sites)) == (2, 12)
