"""Strategies in real runs: secure aggregation, the wire's bytes, dropouts, exact resumption."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.config_file import load_config
from phoenix_secure.federation.engines.exchange import Failure, FailureCode, Reply
from phoenix_secure.federation.engines.grid import GridEngine
from phoenix_secure.federation.heterogeneity.filtering import Judgement, SelfEvaluator
from phoenix_secure.federation.heterogeneity.run_strategies import RunStrategies
from phoenix_secure.federation.heterogeneity.site_round import SiteStrategies
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites

SHARING = ["sharing.source=public", "sharing.name=mnist-5k", "sharing.warmup_steps=2"]
FILTERING = [
    "filtering.threshold=1.0",
    "filtering.max_failures=1",
    "filtering.first_round=1",
    "filtering.num_images=10",
    "filtering.num_steps=2",
]
# Without secure aggregation, what strategies do takes the same way with fewer stages.
MODES = ["on", pytest.param("off", marks=pytest.mark.slow)]
STRATEGIES = {
    "sharing": SHARING,
    "personal": ["exchange.personal=[last-layers]"],
    "filtering": FILTERING,
    "alternate": ["exchange.upload=alternate"],
    "control": ["training.control_variates=true"],
    "all": [
        *SHARING,
        *FILTERING,
        "exchange.personal=[last-layers]",
        "exchange.upload=alternate",
        "training.proximal_mu=0.1",
        "federation.server_optimizer=fedavgm",
        "federation.server_learning_rate=0.3",
    ],
}


class Constant:
    """Instead of a network's features: the first pixels, so that a run takes a second."""

    name, dim = "pixels", 8

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1)[:, : self.dim]


@pytest.fixture(autouse=True)
def quick_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunStrategies, "_extractor", Constant())


def start(settings: list[str], path: Path, cache_dir: Path):
    federation = Run(SimulatedSites(load_config(None, settings), cache_dir=cache_dir))
    folder = RunFolder(path)
    return federation, folder, federation.start(folder, overwrite=False)


def parameters_of(folder: RunFolder, config) -> np.ndarray:
    return folder.load_state(config=config).parameters


ALL_AT_ONCE = [
    pytest.param(name, marks=[] if name in ("all", "control") else pytest.mark.slow)
    for name in STRATEGIES
]


@pytest.mark.long
@pytest.mark.parametrize("strategy", ALL_AT_ONCE)
def test_a_secure_run_that_is_interrupted_ends_with_the_same_weights(
    strategy: str, secure_settings, tmp_path: Path, cache_dir: Path
) -> None:
    settings = [*secure_settings, *STRATEGIES[strategy]]
    federation, whole, state = start(settings, tmp_path / "whole", cache_dir)
    list(federation.rounds(state, whole))
    config = federation.config
    federation, cut, state = start(settings, tmp_path / "cut", cache_dir)
    rounds = federation.rounds(state, cut)
    next(rounds)
    rounds.close()
    # A kill between the sites' work in round 2 and the server's checkpoint of it.
    federation = Run(SimulatedSites(config, cache_dir=cache_dir))
    state = federation.resume(cut)
    kept = RunFolder.save_state
    try:
        RunFolder.save_state = _killed
        with pytest.raises(KeyboardInterrupt):
            list(federation.rounds(state, cut))
    finally:
        RunFolder.save_state = kept
    federation = Run(SimulatedSites(config, cache_dir=cache_dir))
    list(federation.rounds(federation.resume(cut), cut))
    assert np.array_equal(parameters_of(whole, config), parameters_of(cut, config))
    for name in ("site-01", "site-05"):
        ours, theirs = (federation.backend._memory(f, name).before(99) for f in (whole, cut))
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert np.array_equal(ours.personal, theirs.personal)
            assert np.array_equal(ours.personal_ema, theirs.personal_ema)
        if strategy == "control":
            assert np.array_equal(ours.moved.start, theirs.moved.start)
            assert np.array_equal(ours.moved.own, theirs.moved.own)


def _killed(self, state, *, config) -> None:
    raise KeyboardInterrupt


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
def test_personal_parameters_appear_in_no_message(
    mode: str, secure_settings, tmp_path: Path, cache_dir: Path, monkeypatch
) -> None:
    sent: list[bytes] = []
    received: list[bytes] = []
    exchange = GridEngine.exchange

    def recorded(self, stage, requests, *, on_reply=None, **others):
        sent.extend(requests.values())
        if on_reply is None:
            answers = exchange(self, stage, requests, **others)
            received.extend(a.body for a in answers.values() if isinstance(a, Reply))
            return answers

        def seen(site, reply):
            received.append(reply.body)
            return on_reply(site, reply)

        return exchange(self, stage, requests, on_reply=seen, **others)

    monkeypatch.setattr(GridEngine, "exchange", recorded)
    settings = [
        *secure_settings,
        f"secure_aggregation.mode={mode}",
        "exchange.personal=[conv_out.*]",
    ]
    federation, folder, state = start(settings, tmp_path / "run", cache_dir)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    answer = SiteStrategies.answer

    def seen(self, request, *, train):
        update = answer(self, request, train=train)
        remembered = self._memory.before(request.round_number + 1)
        before = self._memory.before(request.round_number)
        start = self._start() if before is None else before.personal
        found.append((remembered.personal, remembered.personal - start))
        return update

    monkeypatch.setattr(SiteStrategies, "answer", seen)
    list(federation.rounds(state, folder))
    personal = federation.backend.strategies.exchange.personal
    everything = b"".join(sent + received)
    assert len(found) == 15
    for values, changes in found:
        assert np.abs(changes).min() > 0
        # Eight bytes in a row: four alone stand in megabytes by chance. Of the changes, all: Adam's
        # first steps are of one length everywhere.
        pairs = (values[i : i + 2].tobytes() for i in range(0, values.size - 1, 2))
        assert not any(pair in everything for pair in pairs)
        assert changes.tobytes() not in everything
    sizes = federation.backend.strategies.exchange
    assert sizes.num_uploaded == sizes.num_parameters - personal.sum()
    if mode == "on":
        assert federation.backend.terms.num_parameters == sizes.num_uploaded
    # The positive control: what is shared does appear on the wire, where the server sends a model;
    # in secure rounds sites make it from the sums, which are as long.
    shared = sizes.to_sites(folder.load_state(config=federation.config).parameters)
    start_of_shared = sizes.to_sites(federation.backend.strategies.start_vector()).tobytes()
    assert (start_of_shared in everything) == (mode == "off")
    assert len(b"".join(sent)) > 15 * sizes.num_uploaded * (3 if mode == "on" else 4)
    assert shared.size == sizes.num_uploaded
    # Sites answered with all they share: 3 bytes a word in a sum, 4 in the clear.
    answered = len(b"".join(received))
    assert answered >= 15 * sizes.num_uploaded * (3 if mode == "on" else 4)


@pytest.mark.long
def test_bytes_fall_with_what_stays_at_home(tmp_path: Path, secure_settings, cache_dir) -> None:
    # Wide enough that keys, shares and signatures are next to nothing beside the words.
    wide = ["model.block_channels=[32,32]", "model.attention=[false,false]"]
    sent: dict[str, tuple[int, int]] = {}
    for name, extra in {
        "all": [],
        "decoder at home": ["exchange.personal=[decoder]"],
        "alternate": ["exchange.upload=alternate"],
    }.items():
        federation, folder, state = start(
            [*secure_settings, *wide, "federation.rounds=1", *extra], tmp_path / name, cache_dir
        )
        (report,) = list(federation.rounds(state, folder))
        sent[name] = report.bytes_up, report.bytes_down
        sizes = federation.backend.strategies.exchange
        # 5 sites, 3 bytes a word; keys, shares and signatures are beside it.
        assert report.bytes_up - 5 * 3 * sizes.num_uploaded < 60_000
    assert sent["decoder at home"][0] < 0.5 * sent["all"][0]
    assert sent["decoder at home"][1] < 0.5 * sent["all"][1]
    assert sent["alternate"][0] < 0.8 * sent["all"][0]
    assert sent["alternate"][1] < 0.8 * sent["all"][1]  # the sum comes down, not the model


@pytest.mark.long
@pytest.mark.parametrize("strategy", ALL_AT_ONCE)
def test_a_secure_round_survives_a_site_that_vanishes(
    strategy: str, secure_settings, tmp_path: Path, cache_dir: Path, monkeypatch
) -> None:
    exchange = GridEngine.exchange

    def without_site_02(self, stage, requests, **others):
        if stage != "mask":
            return exchange(self, stage, requests, **others)
        reached = {site: body for site, body in requests.items() if site != "site-02"}
        answers = exchange(self, stage, reached, **others)
        return answers | {"site-02": Failure(code=FailureCode.NO_REPLY)}

    monkeypatch.setattr(GridEngine, "exchange", without_site_02)
    settings = [*secure_settings, *STRATEGIES[strategy], "federation.rounds=2"]
    federation, folder, state = start(settings, tmp_path / "run", cache_dir)
    reports = list(federation.rounds(state, folder))
    assert [len(report.sites) for report in reports] == [4, 4]
    assert all(report.update_norm > 0 for report in reports)


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
def test_filtering_never_leaves_fewer_sites_than_a_round_needs(
    mode: str, secure_settings, tmp_path: Path, cache_dir: Path, monkeypatch
) -> None:
    monkeypatch.setattr(SelfEvaluator, "score", lambda self, parameters, *, round_number: 0.0)
    settings = [
        *secure_settings,
        *FILTERING,
        f"secure_aggregation.mode={mode}",
        "federation.min_sites=3",
    ]
    federation, folder, state = start(settings, tmp_path / "run", cache_dir)
    reports = list(federation.rounds(state, folder))
    # Every site fails its own judgement: asked again, all stay; in a sum all count alike.
    assert [len(report.sites) for report in reports] == [5, 5, 5]
    assert all(report.update_norm > 0 for report in reports)
    if mode == "on":
        assert [report.secure.attempts for report in reports] == [1, 1, 1]
        assert [report.num_images for report in reports] == [5, 5, 5]


@pytest.mark.parametrize("mode", MODES)
def test_some_may_sit_out(
    mode: str, secure_settings, tmp_path: Path, cache_dir: Path, monkeypatch
) -> None:
    """In plaintext a code says who; nothing that leaves a site for a sum does."""
    settings = [
        *secure_settings,
        *FILTERING,
        "federation.rounds=1",
        f"secure_aggregation.mode={mode}",
    ]
    federation, folder, state = start(settings, tmp_path / "run", cache_dir)
    parts = federation.backend.partition.parts.values()
    sizes = [len(part) - max(4, round(0.1 * len(part))) for part in parts]

    def only_the_smallest_fails(self, whole, round_number, before) -> Judgement:
        fails = self._num_images == min(sizes)
        return Judgement(failures=int(fails), refuses=fails)

    monkeypatch.setattr(SiteStrategies, "_judged", only_the_smallest_fails)
    (report,) = list(federation.rounds(state, folder))
    assert report.num_images == sum(sizes) - min(sizes) + (mode == "on")
    if mode == "on":
        assert (len(report.sites), report.failures) == (5, {})
    else:
        assert len(report.sites) == 4
        assert set(report.failures.values()) == {"refused"}


@pytest.mark.long
def test_personal_models_are_exported_and_differ_from_the_global_one(
    secure_settings, tmp_path: Path, cache_dir: Path
) -> None:
    settings = [*secure_settings, "exchange.personal=[last-layers]"]
    federation, folder, state = start(settings, tmp_path / "run", cache_dir)
    list(federation.rounds(state, folder))
    summary = federation.finish(folder)
    weights = "unet/diffusion_pytorch_model.safetensors"
    models = [
        (path / weights).read_bytes()
        for path in (folder.model, *sorted((folder.path / "sites").glob("*/model")))
    ]
    assert len(set(models)) == 6
    assert summary.strategies["exchange"]["num_personal"] > 0
    state = folder.load_state(config=federation.config)
    start_vector = federation.backend.strategies.start_vector()
    personal = federation.backend.strategies.exchange.personal
    assert np.array_equal(state.parameters[personal], start_vector[personal])
    drawn = federation.backend.personal_models(folder, state).sample(7, purpose="test")
    assert drawn.shape == (7, 1, 8, 8)


def test_warm_up_gives_the_first_model_and_raw_images_are_marked_in_the_summary(
    secure_settings, tmp_path: Path, cache_dir: Path
) -> None:
    raw = [
        "sharing.source=raw-private",
        "sharing.accept_raw_private_images=true",
        "sharing.warmup_steps=3",
        "federation.rounds=1",
    ]
    federation, folder, state = start([*secure_settings, *raw], tmp_path / "run", cache_dir)
    assert not np.array_equal(state.parameters, federation.backend.model.initial_parameters)
    assert np.array_equal(state.parameters, state.ema)
    list(federation.rounds(state, folder))
    federation.finish(folder)
    summary = json.loads((folder.path / "summary.json").read_text())
    assert summary["strategies"]["sharing"]["raw_private_images"] is True
    assert "private images of the sites" in summary["strategies"]["sharing"]["warning"]


def test_terms_of_another_selection_have_another_policy_hash(secure_settings, cache_dir) -> None:
    hashes = {
        Run(
            SimulatedSites(load_config(None, [*secure_settings, *extra]), cache_dir=cache_dir)
        ).backend.terms.policy_hash
        for extra in ([], STRATEGIES["personal"], STRATEGIES["alternate"], SHARING, FILTERING)
    }
    assert len(hashes) == 5
