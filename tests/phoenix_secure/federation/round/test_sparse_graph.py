"""One line says what a k-regular graph assumes, with its figures; records keep them."""

from __future__ import annotations

import dataclasses

import pytest

from phoenix_secure.federation.round.sparse_graph import SparseGraph
from protocol.parameters import choose
from protocol.regular_graph import RegularGraph


def graph_of(num_sites: int, *, dropout: float = 0.1) -> RegularGraph:
    found = choose(num_sites, roster_size=num_sites, gamma=0.1, delta=dropout, allow_regular=True)
    assert isinstance(found, RegularGraph)
    return found


def words_of(num_sites: int, *, dropout: float = 0.1) -> str:
    graph = graph_of(num_sites, dropout=dropout)
    return SparseGraph.of(graph).in_words(n=num_sites, t=graph.quorum, c=graph.num_colluders)


def test_the_line_says_who_is_trusted_and_with_what_chance() -> None:
    assert words_of(500) == (
        "a WEAKER graph: each site shares masks with 102 of 499 others; sums hide single updates "
        "but for a chance of 2^-86 ONLY IF at most 50 sites work with the server and it does not "
        "choose by the graph who vanishes (semi-malicious server); a round that 50 sites leave "
        "fails with a chance of 2^-22"
    )


def test_where_there_is_no_chance_none_is_told() -> None:
    assert "2^" not in words_of(129)
    assert "a round that 13 sites leave still ends" in words_of(129)
    graph = SparseGraph.of(graph_of(500, dropout=0.0))
    assert (graph.log2_insecure, graph.log2_failure) == (-87.01, None)


def test_records_are_read_again_and_others_are_refused() -> None:
    graph = SparseGraph.of(graph_of(500))
    content = dataclasses.asdict(graph)
    assert SparseGraph.from_dict(content) == graph
    del content["degree"]
    with pytest.raises(ValueError, match=r"expected a graph of secure aggregation: .*degree"):
        SparseGraph.from_dict(content)
