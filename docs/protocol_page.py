"""Writes the generated parts of ``docs/protocol.md``: the state diagrams.

Run ``python docs/protocol_page.py`` after a change of a transition table; a test compares.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from protocol.client import CLIENT_TABLE
from protocol.server import SERVER_TABLE
from protocol.session import Move, State

PAGE = Path(__file__).with_name("protocol.md")


def diagram(table: Mapping[tuple[type[State], str], Move]) -> str:
    """A Mermaid state diagram with one arrow per legal pair of state and message or call."""
    first = next(iter(table))[0].__name__
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    sources = {state.__name__ for state, _ in table}
    finals = []
    for (state, trigger), move in table.items():
        # A message is a class name; a call of the driver is written with parentheses.
        label = trigger if trigger[0].isupper() else f"{trigger}()"
        for target in move.to:
            lines.append(f"    {state.__name__} --> {target.__name__}: {label}")
            if target.__name__ not in sources and target.__name__ not in finals:
                finals.append(target.__name__)
    lines += [f"    {name} --> [*]" for name in finals]
    return "\n".join([*lines, "```"])


def with_diagrams(text: str) -> str:
    """The page with both diagrams brought up to date."""
    for name, table in (("client", CLIENT_TABLE), ("server", SERVER_TABLE)):
        begin, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"expected the markers {begin} and {end} in {PAGE.name}")
        text = pattern.sub(lambda _, t=table, b=begin, e=end: f"{b}\n{diagram(t)}\n{e}", text)
    return text


if __name__ == "__main__":
    PAGE.write_text(with_diagrams(PAGE.read_text()))
