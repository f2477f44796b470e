"""``phoenix-secure benchmark``: the arguments (the work is in ``benchmarking``)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phoenix_secure.cli.output import Format, FormatOption

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="The protocols by which a field compares methods, row by row."
)

Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes to every row's settings, such as release.fit_steps=400."),
]
Out = Annotated[Path, typer.Option("--out", help="Folder of the rows' runs.")]
Table = Annotated[Path, typer.Option("--csv", help="Table that finished rows are added to.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="List what would run, and about how long it takes.")
]


@app.command("dp-images")
def dp_images(
    overrides: Overrides = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset",
            help="mnist, fashion-mnist or cifar10; digits (8x8, bundled) for practice. Options "
            "can be given several times: every combination is a row. Default mnist.",
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--setting",
            help="one_place: one owner holds everything. sites_iid: ten sites, dealt at random. "
            "sites_2shards: ten sites with two classes or so each. Default sites_2shards.",
        ),
    ] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(
            "--trust",
            help="Who adds the noise. central: the one place. sum: ten sites together, inside "
            "secure sums. site-local: each site all of it. Default central or sum.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help="release: one noised sum of features, and a generator fitted to it. dp-sgd: a "
            "diffusion model by noised gradients. both: the one, then the other, for one epsilon. "
            "Default release.",
        ),
    ] = None,
    epsilon: Annotated[
        list[float] | None, typer.Option("--epsilon", help="For each image. Default 1.")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option("--seed", min=0, help="Of split, model and fit. Default 0.")
    ] = None,
    num_images: Annotated[
        int | None,
        typer.Option(
            "--num-images", min=10, help="Synthetic images of a row; the field's 60,000 by default."
        ),
    ] = None,
    out: Out = Path("runs/dp_images"),
    csv: Table = Path("docs/results/dp_images.csv"),
    inception_weights: Annotated[
        Path | None,
        typer.Option(
            "--inception-weights", help="inception-2015-12-05.pt: FID too, in each result.json."
        ),
    ] = None,
    device: Device = "auto",
    dry_run: DryRun = False,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Private synthetic images by the protocol of their field: 55,000 images to train on, delta = 1
    / (N ln N), 60,000 synthetic images, a classifier trained on those alone and judged on the
    10,000 real test images.

    Stop it at any time; the same command goes on where it was. Finished rows are kept and never run
    again; several processes may work on the same rows. Each row leaves `gen.npz` (images, labels),
    `result.json` and its run in --out, and a line in --csv, whose last column makes it again.

    Examples:

        phoenix-secure benchmark dp-images --dry-run --epsilon 1 --epsilon 10 --seed 0 --seed 1

        phoenix-secure benchmark dp-images --dataset digits --num-images 500 --out /tmp/practice
        --csv /tmp/practice.csv release.fit_steps=100
    """
    from phoenix_secure.cli import benchmarking
    from phoenix_secure.experiments.benchmarks.dp_images import NUM_IMAGES

    rows = benchmarking.dp_rows(
        datasets=dataset or ["mnist"],
        settings=setting or ["sites_2shards"],
        trusts=trust or [],
        methods=method or ["release"],
        epsilons=epsilon or [1.0],
        seeds=seed or [0],
        num_images=num_images or NUM_IMAGES,
        overrides=overrides or [],
    )
    benchmarking.run(
        rows,
        out=out,
        csv=csv,
        device=device,
        dry_run=dry_run,
        inception_weights=inception_weights,
        output_format=output_format,
    )


@app.command("dfd-mnist")
def dfd_mnist(
    overrides: Overrides = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help="release: one noised sum of features, and a generator fitted to it. selected: the "
            "same, whose images a private classifier selects. fedavg: a diffusion model by rounds "
            "of 10 local steps. gradients: a diffusion model by one secure sum a step. Options can "
            "be given several times: every combination is a row. Default release and selected.",
        ),
    ] = None,
    partition: Annotated[
        list[str] | None,
        typer.Option(
            "--partition",
            help="dirichlet: labels dealt by Dirichlet(0.1). two-classes: two label shards a site. "
            "Default both.",
        ),
    ] = None,
    epsilon: Annotated[
        list[str] | None,
        typer.Option(
            "--epsilon",
            help="For each image, at delta 1e-5; none: without privacy. A release is always noised:"
            " there none is 1000, and the row says so. Default 10 and none.",
        ),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option("--seed", min=0, help="Of images, split, model and fit. Default 0."),
    ] = None,
    dataset: Annotated[
        str, typer.Option("--dataset", help="mnist; digits (8x8, bundled) for practice.")
    ] = "mnist",
    num_images: Annotated[
        int | None,
        typer.Option("--num-images", min=100, help="Synthetic images of a row. Default 10,000."),
    ] = None,
    out: Out = Path("runs/dfd_mnist"),
    csv: Table = Path("docs/results/dfd_mnist.csv"),
    device: Device = "auto",
    dry_run: DryRun = False,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Few images at sites that differ, in the setting of DfD's MNIST table (Hahn and Lee 2025): ten
    sites with about 300 images of 32x32 each; logistic regression, a multilayer perceptron and a
    CNN are trained on synthetic images alone and judged on the 10,000 real test images.

    Their best, without privacy: 78.5, 78.1 and 78.9 %. At epsilon 10 they show a picture.

    Stop it at any time; the same command goes on where it was. Finished rows are kept and never run
    again; several processes may work on the same rows. Each row leaves `gen.npz` (images, labels),
    `result.json` and its run in --out, and a line in --csv, whose command makes it again.

    Examples:

        phoenix-secure benchmark dfd-mnist --dry-run

        phoenix-secure benchmark dfd-mnist --seed 0 --seed 1 --seed 2

        phoenix-secure benchmark dfd-mnist --dataset digits --num-images 500 --out /tmp/practice
        --csv /tmp/practice.csv release.fit_steps=100
    """
    from phoenix_secure.cli import benchmarking
    from phoenix_secure.experiments.benchmarks.dfd_mnist import NUM_IMAGES

    rows = benchmarking.dfd_rows(
        dataset=dataset,
        methods=method or ["release", "selected"],
        partitions=partition or ["dirichlet", "two-classes"],
        epsilons=epsilon or ["10", "none"],
        seeds=seed or [0],
        num_images=num_images or NUM_IMAGES,
        overrides=overrides or [],
    )
    benchmarking.run(
        rows, out=out, csv=csv, device=device, dry_run=dry_run, output_format=output_format
    )


@app.command("table")
def table(
    csv: Annotated[Path, typer.Argument(help="The table of `dp-images` or `dfd-mnist`.")] = Path(
        "docs/results/dp_images.csv"
    ),
) -> None:
    """Print a table in Markdown: rows that differ in their seed alone as mean and deviation."""
    from phoenix_secure.cli import benchmarking

    benchmarking.print_markdown(csv)
