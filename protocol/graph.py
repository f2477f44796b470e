"""Who shares masks with whom: everybody, or a random k-regular graph (a weaker option).

On the complete graph a malicious server cannot isolate a site. On a k-regular one it can try to,
by claiming that the right neighbours dropped out; Bell et al. bound the chance for a graph that
the server cannot choose. The order comes from h1, which the server can influence by leaving keys
out, so parameters for it are searched with security 2^-80 (see ``parameters``).

Source: Bell et al. (2020), eprint 2020/704, section 3 (random Harary graph H(n, k)).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from protocol import labels
from protocol.encoding import encode, encode_text

__all__ = ["Neighbourhoods"]


class Neighbourhoods:
    """The graph on one round's ``members``; ``degree`` 0 means complete.

    >>> Neighbourhoods(["a", "b", "c"], degree=0, h1=b"").of("b")
    ('a', 'c')
    """

    __slots__ = ("_around", "_complete")

    def __init__(self, members: Sequence[str], *, degree: int, h1: bytes) -> None:
        self._complete = degree == 0
        if self._complete:
            everyone = tuple(sorted(members))
            self._around = {u: tuple(v for v in everyone if v != u) for u in everyone}
            return
        ring = sorted(
            members,
            key=lambda id: hashlib.sha256(
                encode([labels.GRAPH_ORDER, h1, encode_text(id)])
            ).digest(),
        )
        half = degree // 2
        self._around = {}
        for place, u in enumerate(ring):
            steps = [step for step in range(-half, half + 1) if step % len(ring) != 0]
            self._around[u] = tuple(sorted({ring[(place + step) % len(ring)] for step in steps}))

    def of(self, id: str) -> tuple[str, ...]:
        """The sites with which ``id`` exchanges masks and shares, sorted; never itself."""
        return self._around[id]

    def holders(self, id: str) -> tuple[str, ...]:
        """The sites that hold a share of ``id``'s secrets, sorted.

        On the complete graph a site keeps one share itself (Bonawitz et al.: U1 includes u), so
        that t survivors always hold t shares. On a k-regular one only neighbours hold shares.
        """
        return tuple(sorted((*self._around[id], id))) if self._complete else self._around[id]
