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


REGULAR = ["partition.num_sites=200", "secure_aggregation.graph=regular"]


@pytest.mark.parametrize(
    ("asked", "needed"),
    [
        (["privacy.unit=site", "privacy.epsilon=8"], "privacy.unit=record (shares of noise"),
        (
            ["private", "release.features=hog", "privacy.trust=sum"],
            "privacy.trust=site-local (shares of noise",
        ),
        (["audit.at_sites=true"], "audit.at_sites=false"),
    ],
)
def test_what_is_safe_in_whole_sums_alone_is_refused_on_the_weaker_graph(
    asked: list[str], needed: str
) -> None:
    base, changes = ("private", asked[1:]) if asked[0] == "private" else (None, asked)
    with pytest.raises(ConfigError) as caught:
        load_config(base, [*REGULAR, *changes])
    assert "secure_aggregation.graph=regular, a weaker graph, needs" in str(caught.value)
    assert needed in str(caught.value)
    load_config(base, [REGULAR[0], *changes])


def test_a_plan_on_the_complete_graph_does_not_name_it() -> None:
    """So that plans and run folders of before there was a choice keep their bytes."""
    assert "graph" not in load_config(None, []).secure_aggregation.model_dump()
    chosen = load_config(None, [*REGULAR, "privacy.unit=record", "privacy.epsilon=8"])
    assert chosen.secure_aggregation.model_dump()["graph"] == "regular"


def test_a_release_asks_for_all_it_needs_at_once() -> None:
    wrong = ["federation.rounds=3", "audit.canaries=10", "privacy.release_metrics=true"]
    needed = "federation.rounds=1, privacy.release_metrics=false, audit.canaries=0"
    with pytest.raises(ConfigError, match=rf"a release .* needs {needed}$"):
        load_config("private", wrong)
