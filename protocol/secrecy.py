"""Keeping secrets out of copies: objects that hold them cannot be pickled or copied."""

from __future__ import annotations

from typing import NoReturn, SupportsIndex

__all__ = ["NoCopies"]


class NoCopies:
    """Base of everything that holds a secret.

    A copy would outlive the original, and a restored one would use the same mask twice, which
    gives away the difference of two inputs.

    Guarantee:  ``pickle``, ``copy`` and ``deepcopy`` raise TypeError; ``repr`` shows no field.
    """

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds secrets and cannot be pickled or copied")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
