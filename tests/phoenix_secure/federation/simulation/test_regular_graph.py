"""More than 128 sites in one process, on the k-regular graph: the whole run, and what it tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phoenix_secure.config_file import load_config
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.summary import read_summary
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites

# Nobody vanishes, so that the graph is as sparse as it gets: 14 neighbours.
MANY = [
    *("partition.num_sites=129", "data.max_images=null", "training.local_steps=1"),
    *("federation.rounds=1", "data.held_out=0.0", "data.reference=0.0"),
    *("secure_aggregation.mode=on", "secure_aggregation.dropout=0"),
]


@pytest.mark.slow
def test_129_sites_train_on_the_weaker_graph_and_every_record_says_so(
    tiny_settings: list[str], tmp_path: Path, cache_dir: Path
) -> None:
    replaced = {text.partition("=")[0] for text in MANY}
    kept = [text for text in tiny_settings if text.partition("=")[0] not in replaced]
    config = load_config(None, [*kept, *MANY, "secure_aggregation.graph=regular"])
    sites = SimulatedSites(config, cache_dir=cache_dir)
    assert sites.terms is not None
    assert sites.terms.graph is not None
    assert (sites.terms.graph.degree, sites.terms.threshold) == (14, 129)
    run, folder = Run(sites), RunFolder(tmp_path / "run")
    for _ in run.rounds(run.start(folder, overwrite=False), folder):
        pass
    run.finish(folder)
    secure = json.loads(folder.metrics_file.read_text())["secure"]
    assert secure["survivors"] == 129
    assert secure["graph"]["degree"] == 14
    assert secure["assumption"].startswith("a WEAKER graph: each site shares masks with 14 of 128")
    summary = read_summary(tmp_path / "run")
    assert summary.secure is not None
    assert summary.secure.terms.assumption == secure["assumption"]
