"""A refusal names every setting that would have to change, and what else decides on it."""

from __future__ import annotations

import re

import pytest

from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError

GRADIENTS = ["federation.exchange=gradients", "training.local_steps=1", "training.grad_clip=null"]


def test_sums_of_gradients_ask_for_all_they_need_at_once() -> None:
    wrong = ["training.local_steps=5", "training.grad_clip=1", "training.weight_decay=0.1"]
    needed = "training.local_steps=1, training.weight_decay=0, training.grad_clip=null"
    with pytest.raises(ConfigError, match=rf"federation\.exchange=gradients needs {needed}$"):
        load_config(None, [*GRADIENTS, *wrong, "federation.server_optimizer=fedadam"])
    load_config(
        None, [*GRADIENTS, "training.weight_decay=0", "federation.server_optimizer=fedadam"]
    )


@pytest.mark.parametrize(
    ("server", "site", "kind"), [("fedadam", "sgd", "adamw"), ("fedavgm", "adamw", "sgd")]
)
def test_the_site_s_optimizer_is_tied_to_the_server_s(server: str, site: str, kind: str) -> None:
    asked = [f"federation.server_optimizer={server}", f"training.optimizer={site}"]
    reason = f"(the server steps by federation.server_optimizer={server})"
    with pytest.raises(ConfigError, match=re.escape(f"training.optimizer={kind} {reason}")):
        load_config(None, [*GRADIENTS, "training.weight_decay=0", *asked])


def test_a_release_asks_for_all_it_needs_at_once() -> None:
    wrong = ["federation.rounds=3", "audit.canaries=10", "privacy.release_metrics=true"]
    needed = "federation.rounds=1, privacy.release_metrics=false, audit.canaries=0"
    with pytest.raises(ConfigError, match=rf"a release .* needs {needed}$"):
        load_config("private", wrong)
