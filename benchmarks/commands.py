"""The commands that benchmarks adds to `edgecifar`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecifar.train.data.options import data_options, typed
from edgecifar.train.settings import LARGEST_SEED

if TYPE_CHECKING:
    from edgecifar.benchmarks.recipe import Recipe
    from edgecifar.train.data import Dataset

_REMADE = "Make anew what was made by another recipe, and all that came from it."
_FEW = 10_000  # training images: fewer want smaller batches and more epochs


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    default="report.html",
    show_default=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write the page.",
)
@click.option("--title", help="The page's title; by default it names models and data.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="The images that the runs were evaluated on, to show examples of errors.",
)
@click.option(
    "--targets",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file of what files of a bench were to reach, to tell what was missed.  [NAME.toml "
    "beside NAME.json]",
)
@click.option("--markdown", type=click.Path(path_type=Path), help="Also write tables as Markdown.")
@click.option("--csv", type=click.Path(path_type=Path), help="Also write the figures as CSV.")
@click.option(
    "--plots",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also write each drawing of the page as an SVG file into DIR.",
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
def report(
    *,
    inputs: tuple[Path, ...],
    out: Path,
    title: str | None,
    data: Path | None,
    targets: Path | None,
    markdown: Path | None,
    csv: Path | None,
    plots: Path | None,
    force: bool,
) -> None:
    """Write one HTML page on INPUTS: run folders and results of `edgecifar bench`.

    The result of a study, with or without its run folders, gets a page of its own kind.
    """
    from edgecifar.benchmarks.report.publish import publish

    how = {"title": title, "data": data, "targets": targets, "force": force}
    for path in publish(inputs, out, markdown=markdown, csv=csv, plots=plots, **how):
        click.echo(f"wrote {path}")


@click.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option(
    "--max-drop",
    default=0.5,
    show_default=True,
    metavar="POINTS",
    help="Points of top-1 that may be lost.",
)
@click.option(
    "--max-slowdown",
    default=1.1,
    show_default=True,
    metavar="TIMES",
    help="Times the old latency that is still accepted.",
)
@click.option("--accuracy-only", is_flag=True, help="Leave latency out, whatever was measured on.")
@click.option("--markdown", is_flag=True, help="Print a table for GitHub.")
def compare(
    *,
    old: Path,
    new: Path,
    max_drop: float,
    max_slowdown: float,
    accuracy_only: bool,
    markdown: bool,
) -> None:
    """Compare two results of `edgecifar bench`; exit 1 if NEW is worse beyond chance."""
    from edgecifar.benchmarks import compare as comparing
    from edgecifar.runtime.errors import EdgecifarError

    limits = comparing.Limits(max_drop, max_slowdown)
    found = comparing.compare(old, new, limits, accuracy_only=accuracy_only)
    text = comparing.markdown(found) if markdown else "\n".join(comparing.lines(found))
    click.echo(text.rstrip("\n"))
    if found.regressions:
        count = len(found.regressions)
        raise EdgecifarError(f"{count} regression{'s' * (count > 1)}: see above")


def _carry_out(recipe: "Recipe", dataset: "Dataset", out: Path, *, force: bool) -> None:
    from edgecifar.benchmarks.pipeline import run_recipe
    from edgecifar.compress.judge import verdict_of
    from edgecifar.runtime.commands.bench import render
    from edgecifar.train.backend import start_tensorflow
    from edgecifar.train.files import read_json
    from edgecifar.train.run import Run

    start_tensorflow()
    outcome = run_recipe(recipe, dataset, out, force=force)
    click.echo(render(read_json(outcome.bench)))
    for run in map(Run, outcome.runs):
        if verdict := verdict_of(run):
            click.echo(f"\n{run.name}: {verdict}")
    click.echo(f"\nreport: {outcome.report}")


def _carry_out_study(name: str, dataset: "Dataset", out: Path, **how) -> None:
    from edgecifar.benchmarks.study import plan
    from edgecifar.benchmarks.study.carry_out import carry_out
    from edgecifar.runtime.errors import EdgecifarError
    from edgecifar.train.backend import start_tensorflow

    start_tensorflow()
    outcome = carry_out(plan.read(name), dataset, out, name=Path(name).stem, **how)
    click.echo(f"result: {outcome.result}\nreport: {outcome.report}")
    if outcome.failures:
        told = "; ".join(f"{place}: {why}" for place, why in outcome.failures.items())
        raise EdgecifarError(f"{len(outcome.failures)} could not be carried out: {told}")


@click.command()
@click.argument("recipe")
@data_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for all results.  [runs/RECIPE, runs/RECIPE-seedN]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, LARGEST_SEED),
    help="Of all random numbers; by default the recipe's, 0.",
)
@click.option("--force", is_flag=True, help=_REMADE)
@click.option("--quick", is_flag=True, help="One epoch a stage: does all of it work?")
@click.option("--only", multiple=True, metavar="RECIPE", help="Of a study, only this (repeatable).")
@click.option(
    "--earlier",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A result of the same study that fills in what isn't carried out here.",
)
def run(
    *,
    recipe: str,
    out: Path | None,
    seed: int | None,
    force: bool,
    quick: bool,
    only: tuple[str, ...],
    earlier: Path | None,
    **source,
) -> None:
    """Carry out RECIPE, a name or a TOML file, from training to report.

    One whose models ship is compared with them at the end. The same command goes on after an
    interruption and skips what is finished. Recipes that teach
    this one are carried out first, in folders beside --out.

    A study, such as seed-study, is a table of recipes and seeds. Each recipe has a folder of its
    own, beside --out, and --only ablation stands for all recipes of the study's ablation.
    """
    from edgecifar.benchmarks import recipe as recipes
    from edgecifar.train.data import load

    if recipes.is_study(recipe):
        if seed is not None or force:
            raise click.UsageError("a study states its seeds and keeps what is finished")
        out = out or Path("runs") / recipes.folder_name(recipe, quick=quick)
        how = {"only": only, "quick": quick, "earlier": earlier, "source": typed(source)}
        _carry_out_study(recipe, load(**source), out, **how)
        return
    if only or earlier:
        raise click.UsageError(f"--only and --earlier are for studies, and {recipe} is none")
    from edgecifar.benchmarks.retrained import against_shipped

    chosen = recipes.read(recipe)
    chosen = chosen.shortened() if quick else chosen
    chosen = chosen if seed is None else replace(chosen, seed=seed)
    out = out or Path("runs") / recipes.folder_name(recipe, quick=quick, seed=chosen.seed)
    _carry_out(chosen, load(**source), out, force=force)
    if not quick and (compared := against_shipped(recipe, out)):
        click.echo(compared)


@click.command()
@data_options
@click.option("--out", type=click.Path(path_type=Path), help="Folder for all results.  [runs/demo]")
@click.option("--force", is_flag=True, help=_REMADE)
def demo(*, out: Path | None, force: bool, **source) -> None:
    """Train, quantize, export, measure and report a small net, in minutes."""
    from edgecifar.benchmarks import recipe as recipes
    from edgecifar.train.data import load
    from edgecifar.train.settings import for_few_images

    dataset = load(**source)
    count = len(dataset.train)
    recipe = recipes.read("demo-few" if count < _FEW else "demo")
    if count < recipe.train.batch_size:
        recipe = replace(recipe, train=for_few_images(recipe.train, count))
    _carry_out(recipe, dataset, out or Path("runs/demo"), force=force)
