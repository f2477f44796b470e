"""Giving up a training round that sites have signed and that can no longer be summed.

Once a survivor set went out to be signed, its training round may only be summed over these very
sites. When one of them is gone for good, the run would be stuck for good. It then goes on with the
*next* training round, from the same model:

- No site loosens a rule. A site takes any later training round than those it signed, on whatever
  model the server sends; it keeps refusing the old one over other survivors.
- The number of the round given up is used up. A run of R rounds therefore still yields at most R
  different sums, which is what its differential privacy was planned for. A server may have seen
  the sum of the round given up, so it counts as released.
- The sites train again: another number means other batches, other noise, other rounding.

What a server that has both sums can learn from their difference stands in docs/secure-rounds.md.
"""

from __future__ import annotations

import dataclasses

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.journal import SecureJournal

__all__ = ["skip_round"]


def skip_round(folder: RunFolder, *, config: RunConfig) -> int:
    """Give up the round after the newest checkpoint of the run in ``folder``; returns its number.

    Guarantee:  model, average and optimizer state stay as they are; a crash half-way leaves a run
                that can be skipped again; the server never asks for the round again.
    Raises:     ConfigError where no round is stuck: then `resume` alone goes on.
    """
    if config.secure_aggregation.mode != "on":
        raise ConfigError("--skip-round is for secure aggregation: `resume` without it goes on")
    state = folder.load_state(config=config)
    number = state.round_number + 1
    journal = SecureJournal(folder.server_rounds)
    if number > config.federation.rounds:
        raise ConfigError(f"all {config.federation.rounds} rounds are done: nothing to skip")
    if journal.survivors(number) is None:
        raise ConfigError(
            f"round {number} is not stuck, no site was asked to sign it: "
            "`resume` without --skip-round repeats it"
        )
    # The promise first: a checkpoint without it could lead back to the round.
    journal.record_given_up(number)
    folder.save_state(dataclasses.replace(state, round_number=number), config=config)
    return number
