"""The progress of a run, for people and for programs."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from phoenix_secure.cli.durations import duration
from phoenix_secure.cli.listing import print_table
from phoenix_secure.cli.output import Format, console, print_json
from phoenix_secure.cli.tables import quality_table
from phoenix_secure.config import RunConfig
from phoenix_secure.federation.deployment.deployed_sites import DeployedSites
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.round.report import (
    FitReport,
    RoundReport,
    RunEvent,
    StageReport,
)
from phoenix_secure.federation.run.summary import RunSummary, SecureSummary
from phoenix_secure.federation.secagg.terms import SecureTerms
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.training.schedule import num_local_steps

__all__ = ["RunDisplay", "print_guarantee"]


_EVENTS = {StageReport: "stage", RoundReport: "round", FitReport: "fit"}


class _Counted(Progress):
    """A progress bar that reads how far its one task has come each time it is drawn."""

    def __init__(self, *columns: ProgressColumn, completed: Callable[[], int], disable: bool):
        self._completed = completed
        super().__init__(*columns, console=console, disable=disable)

    def get_renderables(self) -> Iterator[RenderableType]:
        for task in self.tasks:
            self.update(task.id, completed=self._completed())
        yield from super().get_renderables()


class _Roomy(TextColumn):
    """Text that gives way: shown only on a terminal of ``columns`` or more."""

    def __init__(self, text: str, *, columns: int) -> None:
        super().__init__(text, table_column=Column(no_wrap=True))
        self._columns = columns

    def render(self, task: Task) -> Text:
        return super().render(task) if console.width >= self._columns else Text()


class RunDisplay:
    """A progress bar on a terminal, a line a round elsewhere, JSON lines for machines.

    images_trained   the number of images so far, which the bar counts
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        output_format: Format,
        images_trained: Callable[[], int] = lambda: 0,
    ) -> None:
        self._config = config
        self._as_json = output_format is Format.JSON
        self._images_before = 0
        self._excluded: set[str] = set()
        self._fitting, self._fitted = "", 0
        self._bar = _Counted(
            # Bar, count and time left fit into 80 columns with the loss; the rest needs more.
            TextColumn("{task.fields[head]}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}", table_column=Column(no_wrap=True)),
            TimeRemainingColumn(compact=True),
            TextColumn("left", table_column=Column(no_wrap=True)),
            _Roomy("loss {task.fields[loss]}", columns=80),
            _Roomy("{task.fields[speed]} images/s", columns=100),
            _Roomy("{task.fields[stage]}", columns=136),
            completed=lambda: self._fitted or self._images_before + images_trained(),
            disable=self._as_json or not console.is_terminal,
        )
        self._task = self._bar.add_task(
            "run",
            total=None,
            head=self._round(1),
            unit="images",
            loss="-",
            speed="-",
            stage="",
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def open_simulation(self, sites: SimulatedSites, *, folder: Path, rounds_done: int) -> None:
        """Say what is about to run and set the bar's length."""
        config, parts = self._config, sites.partition.parts
        if not config.release.is_on:
            self._expect_images(parts, rounds_done=rounds_done)
        guarantee = sites.guarantee().to_dict()
        if self._as_json:
            print_json(
                {
                    "event": "started",
                    "run_dir": str(folder),
                    "rounds_done": rounds_done,
                    "secure_aggregation": config.secure_aggregation.mode,
                    "secure": None if sites.terms is None else sites.terms.record.to_dict(),
                    "guarantee": guarantee,
                }
            )
            return
        images = sites.partition.image_set
        sizes = [len(part) for part in parts.values()]
        console.print(
            f"{len(parts)} sites hold {sum(sizes):,} images of {images.name} "
            f"({min(sizes):,} to {max(sizes):,} each, {config.partition.scheme}), "
            f"{images.image_size}x{images.image_size}x{images.channels}; results in {folder}",
            soft_wrap=True,
        )
        console.print(_aggregation_line(sites.terms), soft_wrap=True)
        print_guarantee(guarantee)
        if rounds_done:
            console.print(f"resuming after round {rounds_done} of {config.federation.rounds}")

    def expect(self, seconds: float, *, is_audited: bool) -> None:
        """Say how long the run will take, as it was just calibrated."""
        after = "; audit and report come after that" if is_audited else ""
        console.print(
            f"about {duration(seconds)} for training and evaluation on this machine{after}"
        )

    def _expect_images(self, parts: Mapping[str, Any], *, rounds_done: int) -> None:
        """Set the bar's length from what the sites will train on."""
        config = self._config
        per_round = config.images_per_step * sum(
            num_local_steps(config.training, num_images=len(part)) for part in parts.values()
        )
        share = max(1, round(config.federation.participation * len(parts))) / len(parts)
        self._images_before = int(per_round * share) * rounds_done
        total = int(per_round * share) * config.federation.rounds
        self._bar.update(self._task, total=total, head=self._round(rounds_done + 1))

    def _round(self, number: int) -> str:
        rounds = self._config.federation.rounds
        return f"round {min(number, rounds)}/{rounds}"

    def open_deployment(self, sites: DeployedSites, *, folder: Path, rounds_done: int) -> None:
        """Say which plan is about to run, and over which sites."""
        facts = {
            "federation": sites.plan.federation,
            "plan": sites.plan.hash,
            "sites": list(sites.sites),
            "rounds_done": rounds_done,
            "secure_aggregation": sites.config.secure_aggregation.mode,
            "guarantee": sites.guarantee().text,
        }
        if self._as_json:
            print_json({"event": "started", "run_dir": str(folder), **facts})
            return
        for name, value in (facts | {"sites": ", ".join(sites.sites)}).items():
            console.print(f"{name.replace('_', ' '):<18} {value}", soft_wrap=True)
        if sites.terms is None:
            console.print("the server sees every site's update", style="bold red")
        elif sites.terms.record.assumption is not None:
            console.print(_aggregation_line(sites.terms), soft_wrap=True)

    def show(self, event: RunEvent) -> None:
        """Show one stage or one round."""
        if self._as_json:
            print_json({"event": _EVENTS[type(event)], **event.to_dict()})
        elif isinstance(event, FitReport):
            self._show_fit(event)
        elif isinstance(event, StageReport):
            self._show_stage(event)
        else:
            self._show_round(event)

    def _show_fit(self, report: FitReport) -> None:
        text = f"fitting the {report.what}, step {report.step}/{report.num_steps}"
        if report.what != self._fitting:
            # Its steps take another time than what was counted before.
            self._fitting = report.what
            self._bar.reset(self._task, total=report.num_steps, head=report.what, unit="steps")
        self._fitted = report.step
        self._bar.update(self._task, loss=_loss(report.loss), speed="-", stage="")
        if not console.is_terminal or report.step == report.num_steps:
            console.print(f"{text}  loss {report.loss:.4f}  {report.seconds:.1f} s")

    def _show_stage(self, report: StageReport) -> None:
        """Sites that are missing are named as soon as they are."""
        num_bytes = report.bytes_down + report.bytes_up
        self._bar.update(
            self._task,
            stage=f"{report.stage} {len(report.answered)}/{len(report.asked)} sites "
            f"{num_bytes / 1e6:,.1f} MB {report.seconds:.1f} s",
        )
        for site, code in report.failures.items():
            attempt = f", attempt {report.attempt}" if report.attempt > 1 else ""
            verb = "refused" if code == FailureCode.REFUSED.value else "dropped out"
            console.print(
                f"round {report.training_round}{attempt}: {site} {verb} in stage "
                f"{report.stage} ({code})"
            )

    def _show_round(self, report: RoundReport) -> None:
        rounds = self._config.federation.rounds
        self._bar.update(
            self._task,
            head=self._round(report.round_number + 1),
            loss=_loss(report.loss),
            speed=f"{report.images_per_s:,.0f}",
        )
        if not console.is_terminal:
            console.print(
                f"round {report.round_number}/{rounds}  loss {_loss(report.loss)}  "
                f"{report.images_per_s:,.0f} images/s  {len(report.sites)} sites  "
                f"{(report.bytes_down + report.bytes_up) / 1e6:,.1f} MB  {report.seconds:.1f} s"
            )
        if report.secure is None:
            for site, code in report.failures.items():
                console.print(f"round {report.round_number}: {site} gave no update ({code})")
            return
        if report.secure.attempts > 1:
            console.print(
                f"round {report.round_number}: summed in attempt {report.secure.attempts}"
            )
        for each in report.secure.excluded:
            if each["site"] not in self._excluded:
                self._excluded.add(each["site"])
                console.print(
                    f"round {report.round_number}: {each['site']} is excluded: {each['reason']} "
                    f"(proof {each['proof'][:16]})",
                    soft_wrap=True,
                )

    @contextlib.contextmanager
    def working(self, what: str) -> Iterator[None]:
        """A spinner around work without a known length."""
        if self._as_json:
            yield
            return
        with console.status(what):
            yield

    def waiting(self, stage: str, sites: tuple[str, ...], left_s: float) -> None:
        """Say for whom a stage waits whose messages people carry."""
        if self._as_json:
            print_json(
                {"event": "waiting", "stage": stage, "sites": list(sites), "left_s": round(left_s)}
            )
            return
        until = dt.datetime.now().astimezone() + dt.timedelta(seconds=left_s)
        console.print(
            f"{stage}: waiting for {', '.join(sites)}, until {until:%Y-%m-%d %H:%M} at the latest",
            soft_wrap=True,
            markup=False,
        )

    def interrupted(self, go_on: str) -> None:
        """Say how to go on."""
        if not self._as_json:
            console.print(f"stopped; go on with: {go_on}", soft_wrap=True)

    def close(self, summary: RunSummary, *, folder: Path) -> None:
        """The results and where to look at them."""
        if self._as_json:
            print_json({"event": "finished", "run_dir": str(folder), **summary.to_dict()})
            return
        if summary.quality:
            print_table(quality_table(summary.quality))
        console.print(_closing_line(summary.secure), soft_wrap=True)
        print_guarantee(summary.guarantee or {})
        console.print(
            f"{_counted(summary.rounds, 'round')} over {_counted(summary.sites, 'site')} in "
            f"{summary.training_seconds:.0f} s, {summary.num_parameters:,} parameters, "
            f"{_megabytes(summary.bytes_up)} up, {_megabytes(summary.bytes_down)} down"
        )
        console.print(f"samples:  {folder / 'samples.png'}")
        partition = f"    data partition: {folder / 'partition.png'}"
        where = "" if summary.deployment is not None else partition
        console.print(f"curves:   {folder / 'curves.png'}{where}")
        is_generator = (folder / "model" / "release.json").exists()
        kind = "a generator, for `sample`" if is_generator else "a diffusers pipeline folder"
        console.print(f"model:    {folder / 'model'}  ({kind})")


def print_guarantee(guarantee: dict[str, Any]) -> None:
    """The guarantee in words, what each site has spent, and what to be warned of."""
    colour = "yellow" if guarantee["epsilon"] is None else "green"
    console.print(Text.assemble("guarantee: ", (guarantee["text"], colour)), soft_wrap=True)
    if spent := guarantee["per_site"]:
        low, high = min(spent.values()), max(spent.values())
        console.print(
            f"spent so far, by the sites' own ledgers: epsilon {low:.4g} to {high:.4g} "
            f"({guarantee['adjacency']})",
            soft_wrap=True,
        )
    for warning in guarantee["warnings"]:
        console.print(Text.assemble(("warning:", "yellow"), f" {warning}"), soft_wrap=True)


def _loss(value: float | None) -> str:
    """Under differential privacy the sites do not tell theirs."""
    return "-" if value is None else f"{value:.4f}"


def _aggregation_line(terms: SecureTerms | None) -> Text:
    """A line that says who can see which updates; printed before the run starts."""
    if terms is None:
        return Text.assemble(
            ("secure aggregation: OFF", "bold red"),
            " - the server sees every site's update; for research on images that are not secret",
        )
    assumption = terms.record.assumption
    if assumption is not None:
        return Text.assemble(
            "secure aggregation: ",
            (
                "on, no colluder assumed" if terms.graph is None else "on, k-regular graph",
                "bold yellow",
            ),
            f", {terms.cohort_size} sites a round, {terms.threshold} must stay, "
            f"{terms.word_bits} bits a parameter; {assumption}",
        )
    return Text.assemble(
        "secure aggregation: ",
        ("on", "green"),
        f", {terms.cohort_size} sites a round, "
        f"{terms.threshold} must stay, {terms.num_colluders} may collude with the server, "
        f"every sum hides among {terms.num_honest} honest ones or more, "
        f"{terms.word_bits} bits a parameter",
    )


def _closing_line(secure: SecureSummary | None) -> Text:
    if secure is None:
        return Text.assemble(
            ("secure aggregation was OFF", "bold red"), ": the server saw every site's update"
        )
    clipped = secure.clipped_updates
    return Text(
        f"secure aggregation was on: sums over at least {secure.terms.t} sites, "
        f"{'' if clipped is None else f'{clipped} updates clipped, '}"
        f"{secure.failed_attempts} failed attempts"
        f"{'' if secure.terms.assumption is None else '; ' + secure.terms.assumption}"
    )


def _counted(number: int, one: str) -> str:
    return f"{number:,} {one if number == 1 else one + 's'}"


def _megabytes(number: int) -> str:
    """With as many digits as tell something: a release sends less than one."""
    size = number / 1e6
    return f"{size:,.0f} MB" if size >= 10 or number == 0 else f"{size:.2g} MB"
