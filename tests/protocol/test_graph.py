"""Neighbourhoods are mutual; on a sparse graph they depend on h1."""

import pytest

from protocol.graph import Neighbourhoods

IDS = [f"site-{i:03d}" for i in range(30)]


def test_on_the_complete_graph_everybody_is_a_neighbour_and_a_holder_of_its_own():
    graph = Neighbourhoods(IDS, degree=0, h1=b"")
    assert graph.of(IDS[3]) == tuple(id for id in IDS if id != IDS[3])
    assert graph.holders(IDS[3]) == tuple(IDS)


@pytest.mark.parametrize("degree", [2, 8, 28])
def test_a_regular_graph_is_mutual_regular_and_without_loops(degree):
    graph = Neighbourhoods(IDS, degree=degree, h1=b"h")
    for u in IDS:
        around = graph.of(u)
        assert len(around) == degree
        assert u not in around
        assert list(around) == sorted(around)
        assert all(u in graph.of(v) for v in around)
        assert graph.holders(u) == around


def test_a_regular_graph_is_connected():
    graph = Neighbourhoods(IDS, degree=2, h1=b"h")
    reached, front = set(), {IDS[0]}
    while front:
        reached |= front
        front = {v for u in front for v in graph.of(u)} - reached
    assert reached == set(IDS)


def test_the_graph_changes_with_h1_and_not_with_the_order_of_members():
    first = Neighbourhoods(IDS, degree=4, h1=b"1")
    again = Neighbourhoods(IDS[::-1], degree=4, h1=b"1")
    other = Neighbourhoods(IDS, degree=4, h1=b"2")
    assert all(first.of(u) == again.of(u) for u in IDS)
    assert any(first.of(u) != other.of(u) for u in IDS)


def test_more_neighbours_than_members_means_all_of_them():
    graph = Neighbourhoods(IDS[:4], degree=8, h1=b"h")
    assert graph.of(IDS[0]) == tuple(IDS[1:4])
