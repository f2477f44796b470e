"""Lengths of time as people say them."""

from __future__ import annotations

__all__ = ["duration"]


def duration(seconds: float) -> str:
    """Seconds below a minute and a half, then minutes, then hours.

    >>> duration(0.2), duration(89), duration(240), duration(8000)
    ('1 s', '89 s', '4 min', '2.2 h')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
