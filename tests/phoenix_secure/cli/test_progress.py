"""The progress bar: count and time left first, whatever the terminal's width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from phoenix_secure.cli import progress
from phoenix_secure.cli.output import Format
from phoenix_secure.cli.progress import RunDisplay, _counted, _megabytes
from phoenix_secure.config_file import load_config
from phoenix_secure.federation.round.report import FitReport, RoundReport


def drawn(monkeypatch: pytest.MonkeyPatch, *, width: int, fit: FitReport | None = None) -> str:
    """The bar's line after one of 300 rounds, or after a step of a fit."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(progress, "console", console)
    config = load_config(None, ["federation.rounds=300"])
    display = RunDisplay(config, output_format=Format.TEXT, images_trained=lambda: 123_456)
    display._expect_images(dict.fromkeys("abcde", range(40_000)), rounds_done=0)
    display.show(
        RoundReport(
            round_number=41,
            loss=0.1234,
            sites=("a", "b"),
            failures={},
            num_images=10,
            images_per_s=12_345.6,
            seconds=1.0,
            bytes_down=1,
            bytes_up=1,
            update_norm=1.0,
        )
    )
    display._bar.update(display._task, stage="consistency 10/10 sites 1,234.5 MB 12.3 s")
    if fit is not None:
        display.show(fit)
    with console.capture() as captured:
        console.print(display._bar.get_renderable())
    (line,) = captured.get().rstrip("\n").split("\n")
    assert len(line.rstrip()) <= width
    return line


@pytest.mark.parametrize(
    ("width", "shown", "hidden"),
    [
        (70, ["left"], ["loss", "images/s", "sites"]),
        (80, ["left", "loss 0.1234"], ["images/s", "sites"]),
        (100, ["left", "loss 0.1234", "12,346 images/s"], ["sites"]),
        (140, ["left", "loss 0.1234", "12,346 images/s", "consistency 10/10 sites"], []),
    ],
)
def test_a_narrow_terminal_keeps_bar_count_and_time_left(
    monkeypatch: pytest.MonkeyPatch, width: int, shown: list[str], hidden: list[str]
) -> None:
    line = drawn(monkeypatch, width=width)
    assert line.startswith("round 42/300 ")
    assert " 123456/" in line
    for text in shown:
        assert text in line
    for text in hidden:
        assert text not in line


def test_a_fit_is_counted_in_its_own_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    report = FitReport(what="generator", step=12, num_steps=2000, loss=-0.5, seconds=1.0)
    line = drawn(monkeypatch, width=80, fit=report)
    assert line.startswith("generator ")
    assert "12/2000 steps" in line
    assert "loss -0.5000" in line


def test_counts_and_bytes_of_the_closing_line_read_well() -> None:
    assert [_counted(number, "round") for number in (1, 2, 1200)] == [
        "1 round",
        "2 rounds",
        "1,200 rounds",
    ]
    sizes = [_megabytes(number) for number in (0, 210_000, 3_400_000, 2_340_000_000)]
    assert sizes == ["0 MB", "0.21 MB", "3.4 MB", "2,340 MB"]
