"""A signed round with a survivor gone for good: given up for ever, and the training goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.journal import SecureJournal
from phoenix_secure.federation.server.skip_round import skip_round


@pytest.fixture
def stuck(secure_parties, tmp_path: Path):
    """All five signed round 1, the server crashed, and site-05 never comes back."""
    parties = secure_parties.Parties(tmp_path / "parties")
    parties.engine.fault = lambda stage, site, n: "crash-after" if stage == "check" else None
    with pytest.raises(secure_parties.ServerKilled):
        parties.sum()
    parties.engine.fault = lambda stage, site, n: "before" if site == "site-05" else None
    return parties


def journal_of(parties) -> SecureJournal:
    return SecureJournal(parties.path / "server" / "rounds.jsonl")


def folder_of(parties, path: Path) -> RunFolder:
    """A run folder whose journal is that of ``parties``, with the checkpoint before round 1."""
    folder = RunFolder(path)
    folder.create(parties.config, overwrite=False)
    folder.server_rounds.parent.mkdir(parents=True)
    folder.server_rounds.symlink_to(parties.path / "server" / "rounds.jsonl")
    state = ServerState.initial(parties.zeros(), federation=parties.config.federation)
    folder.save_state(state, config=parties.config)
    return folder


def test_stuck_round_names_the_way_out(stuck) -> None:
    with pytest.raises(TrainingError, match=r"site-05.*gone for good, resume with --skip-round"):
        stuck.sum()


def test_training_goes_on_with_the_next_round_over_who_is_left(stuck, tmp_path: Path) -> None:
    folder = folder_of(stuck, tmp_path / "run")
    before = folder.load_state(config=stuck.config)
    assert skip_round(folder, config=stuck.config) == 1
    after = folder.load_state(config=stuck.config)
    assert after.round_number == 1
    np.testing.assert_array_equal(after.parameters, before.parameters)
    np.testing.assert_array_equal(after.ema, before.ema)
    found = stuck.sum(2, parameters=after.parameters)
    four = stuck.names[:4]
    assert found.sites == four
    np.testing.assert_array_equal(found.update, stuck.oracle(four, 2))
    # Freshly trained: not the updates of round 1 under another number.
    assert all(stuck.sites[name].trainings == [1, 2] for name in four)
    assert not np.array_equal(stuck.oracle(four, 1), stuck.oracle(four, 2))


def test_round_given_up_is_never_summed_over_others(stuck, tmp_path: Path) -> None:
    """Neither by an honest server, nor for one that forgets that it gave the round up."""
    skip_round(folder_of(stuck, tmp_path / "run"), config=stuck.config)
    with pytest.raises(TrainingError, match="round 1 was given up"):
        stuck.sum(1)
    assert stuck.sum(2).sites == stuck.names[:4]
    journal = stuck.path / "server" / "rounds.jsonl"
    kept = [
        line
        for line in journal.read_text().splitlines(keepends=True)
        if "given-up" not in line and "survivors" not in line
    ]
    journal.write_text("".join(kept))
    unmasked = len([stage for stage, *_ in stuck.engine.received if stage == "unmask"])
    with pytest.raises(TrainingError):
        stuck.sum(1)
    signed = [stage for stage, *_ in stuck.engine.received if stage == "unmask"]
    assert len(signed) == unmasked


def test_number_of_sums_never_exceeds_the_rounds_of_the_plan(stuck, tmp_path: Path) -> None:
    """A round given up uses its number up: no site takes part beyond the last one."""
    folder = folder_of(stuck, tmp_path / "run")
    skip_round(folder, config=stuck.config)
    last = stuck.config.federation.rounds
    for site in stuck.sites.values():
        site.secure._max_rounds = last
    stuck.sum(last)
    with pytest.raises(TrainingError, match="refused"):
        stuck.sum(last + 1)


def test_only_a_stuck_round_can_be_skipped(secure_parties, tmp_path: Path) -> None:
    parties = secure_parties.Parties(tmp_path / "parties")
    folder = folder_of(parties, tmp_path / "run")
    with pytest.raises(ConfigError, match="round 1 is not stuck"):
        skip_round(folder, config=parties.config)
    assert journal_of(parties).given_up == ()
    assert folder.load_state(config=parties.config).round_number == 0


def test_skip_that_died_before_its_checkpoint_is_done_again(stuck, tmp_path: Path) -> None:
    folder = folder_of(stuck, tmp_path / "run")
    journal_of(stuck).record_given_up(1)
    assert skip_round(folder, config=stuck.config) == 1
    assert journal_of(stuck).given_up == (1,)
    assert folder.load_state(config=stuck.config).round_number == 1


def test_finished_run_and_run_in_the_clear_have_nothing_to_skip(stuck, tmp_path: Path) -> None:
    folder = folder_of(stuck, tmp_path / "run")
    open_config = stuck.config.model_copy(
        update={
            "secure_aggregation": stuck.config.secure_aggregation.model_copy(update={"mode": "off"})
        }
    )
    with pytest.raises(ConfigError, match="for secure aggregation"):
        skip_round(folder, config=open_config)
    done = ServerState.initial(stuck.zeros(), federation=stuck.config.federation)
    last = stuck.config.federation.rounds
    object.__setattr__(done, "round_number", last)
    folder.save_state(done, config=stuck.config)
    with pytest.raises(ConfigError, match="nothing to skip"):
        skip_round(folder, config=stuck.config)
