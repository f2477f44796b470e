"""A path leads from its own item to the root, and from nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.merkle import leads_to, paths_of, root_of


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=40), st.data())
def test_each_path_leads_from_its_item_to_the_root(items, data):
    root, paths = root_of(items), paths_of(items)
    for item, path in zip(items, paths, strict=True):
        assert leads_to(root, item=item, path=path)
        assert len(path) <= 33 * 6
    place = data.draw(st.integers(0, len(items) - 1))
    other = items[place] + b"x"
    assert not leads_to(root, item=other, path=paths[place])
    changed = [*items[:place], other, *items[place + 1 :]]
    assert root_of(changed) != root


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_a_path_that_is_cut_or_changed_leads_nowhere(count):
    items = [bytes([i]) for i in range(count)]
    root = root_of(items)
    for item, path in zip(items, paths_of(items), strict=True):
        for wrong in (path + bytes(33), path + b"x", path[33:] if path else bytes(33)):
            assert not leads_to(root, item=item, path=wrong)
        if path:
            assert not leads_to(root, item=item, path=bytes([path[0] ^ 1]) + path[1:])
            assert not leads_to(root, item=item, path=b"\x02" + path[1:])


def test_an_inner_node_is_no_item():
    items = [b"a", b"b", b"c", b"d"]
    root, paths = root_of(items), paths_of(items)
    inner = paths[0][34:66]
    assert not leads_to(root, item=inner, path=paths[0][33:])


def test_a_path_longer_than_any_tree_is_refused():
    assert not leads_to(bytes(32), item=b"a", path=bytes(33) * 33)
