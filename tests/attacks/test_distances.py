from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from attacks import distances
from attacks.distances import distance_blocks, k_nearest


@given(
    n=st.integers(1, 20),
    m=st.integers(1, 30),
    width=st.integers(1, 6),
    k=st.integers(1, 5),
    block=st.sampled_from([8, 64, 640, 10**6]),
    seed=st.integers(0, 10**6),
)
def test_neighbours_are_those_of_the_full_matrix(
    n: int, m: int, width: int, k: int, block: int, seed: int
) -> None:
    k = min(k, m)
    rng = np.random.default_rng(seed)
    x, pool = rng.standard_normal((n, width)), rng.standard_normal((m, width))
    full = cdist(x, pool)
    kept, distances._BLOCK_BYTES = distances._BLOCK_BYTES, block
    try:
        found = k_nearest(x, pool=pool, k=k)
        rows = {}
        for row, part in distance_blocks(x, pool=pool):
            rows.setdefault(row.start, []).append(part.copy())
    finally:
        distances._BLOCK_BYTES = kept
    np.testing.assert_allclose(found.distances, np.sort(full, axis=1)[:, :k], rtol=1e-12)
    np.testing.assert_allclose(
        np.take_along_axis(full, found.indices, axis=1), found.distances, rtol=1e-12
    )
    blocks = [np.concatenate(rows[start], axis=1) for start in sorted(rows)]
    np.testing.assert_allclose(np.concatenate(blocks), full, atol=1e-6)


def test_near_copies_keep_their_distance() -> None:
    rng = np.random.default_rng(0)
    pool = rng.uniform(-1, 1, (50, 12288)).astype(np.float32)
    x = pool[:5].astype(np.float64)
    x[:, 0] += 1e-7
    found = k_nearest(x, pool=pool).distances[:, 0]
    exact = np.linalg.norm(x - pool[:5].astype(np.float64), axis=1)
    np.testing.assert_allclose(found, exact, rtol=1e-9)


def test_excluding_itself_still_finds_an_equal_record_elsewhere() -> None:
    pool = np.array([[0.0], [0.0], [3.0], [7.0]])
    found = k_nearest(pool, pool=pool, exclude_self=True)
    assert found.distances[:, 0].tolist() == [0, 0, 3, 4]
    assert found.indices[0, 0] == 1
    assert found.indices[1, 0] == 0


def test_too_few_candidates_are_refused() -> None:
    pool = np.zeros((2, 3))
    with pytest.raises(ValueError, match="1 <= k <= 1"):
        k_nearest(pool, pool=pool, k=2, exclude_self=True)
    with pytest.raises(ValueError, match="one length"):
        k_nearest(np.zeros((2, 4)), pool=pool)
    with pytest.raises(ValueError, match="pool itself"):
        k_nearest(pool.copy(), pool=pool, exclude_self=True)


def test_progress_hears_of_all_records() -> None:
    heard: list[tuple[int, int]] = []
    k_nearest(np.zeros((2050, 1)), pool=np.zeros((2, 1)), progress=lambda *d: heard.append(d))
    assert heard[-1] == (2050, 2050)
    assert len(heard) == 3
