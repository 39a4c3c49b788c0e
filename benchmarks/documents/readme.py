"""Write what documents say of results from the committed results, or check that they agree.

That is the tables of README.md and benchmarks/README.md, which stand between
`<!-- results: NAME -->` (`paired`, `targets`, `study`, `search`, `instructions`) and `<!-- end -->`
with the figures of benchmarks/results/NAME.json, the picture above the first of them, the cards of
the shipped models and the best accuracies that `edgecifar models` lists.
Run from the repository's root as `python -m edgecifar.benchmarks.documents.readme`.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from edgecifar.benchmarks import words
from edgecifar.benchmarks.against import versus
from edgecifar.benchmarks.checks import instructions
from edgecifar.benchmarks.compare import multiple
from edgecifar.benchmarks.documents import picture, systems
from edgecifar.benchmarks.documents.cards import card
from edgecifar.benchmarks.documents.search_table import search_table
from edgecifar.benchmarks.documents.study_table import study_table
from edgecifar.benchmarks.markdown import markdown_table
from edgecifar.benchmarks.program import Program
from edgecifar.benchmarks.study import plan
from edgecifar.benchmarks.study import result as study_result
from edgecifar.benchmarks.targets import read_targets, targets_table
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.results import read
from edgecifar.runtime.tables import human_bytes
from edgecifar.train import zoo
from edgecifar.train.files import write_text
from edgecifar.train.zoo import Shipped

SHIPPED = "shipped"  # the result that has all shipped files and the peer's
REPORTED = "seed-study"  # the study that knows what the seed report says of its systems
UNTRAINED = "systems"  # the result that has these systems with random weights
_REFERENCE = "cifar10"
_BLOCK = re.compile(
    r"(<!-- (results|paired|targets|study|search|instructions): ([\w-]+) -->\n).*?(<!-- end -->)",
    re.DOTALL,
)


def documents(root: Path) -> dict[Path, str]:
    """Return the text of every document with figures in it, by its path in the repository."""
    results, models = root / "benchmarks" / "results", zoo.entries(root / "train" / "zoo")
    shipped = _sound(results / f"{SHIPPED}.json")
    folder = root / "train" / "zoo"
    readmes = (root / "README.md", root / "benchmarks" / "README.md")
    outcome = study_result.read(results / f"{REPORTED}.json")
    untrained = _sound(results / f"{UNTRAINED}.json")
    shown = systems.marks(shipped, models, plan.read(REPORTED), outcome, untrained)
    return {
        **{path: fill(path.read_text(encoding="utf-8"), results, models) for path in readmes},
        results / f"{SHIPPED}.svg": picture.draw(shown),
        folder / zoo.MEASURED: measured(models, _studies(results)),
        **{folder / f"{model.name}.md": card(model, shipped) for model in models},
    }


def write_documents(root: Path) -> list[Path]:
    """Write the documents that aren't up to date, and return them."""
    stale = _stale(root)
    for path, text in stale.items():
        write_text(path, text)
    return list(stale)


def _stale(root: Path) -> dict[Path, str]:
    return {
        path: text
        for path, text in documents(root).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }


def fill(text: str, results: Path, models: Sequence[Shipped]) -> str:
    """Return `text` with every marked block written anew from the JSON files in `results`."""
    bodies = {
        "results": lambda path: table(_sound(path)),
        "paired": lambda path: paired(_sound(path), models),
        "targets": lambda path: targets_table(
            _sound(path), read_targets(path.with_suffix(".toml"))
        ),
        "study": study_table,
        "search": search_table,
        instructions.KIND: lambda path: counted(read(path, kind=instructions.KIND)),
    }

    def block(match: re.Match) -> str:
        return match[1] + bodies[match[2]](results / f"{match[3]}.json") + match[4]

    return _BLOCK.sub(block, text)


def table(result: Mapping[str, Any]) -> str:
    """Return a bench result as a Markdown table and a line on where it was measured."""
    rows = [("file", "top-1 % (95 % interval)", "median", "ratio", "model", "backend")]
    for row in result["models"]:
        rows.append(
            (
                f"`{Path(row['file']).name}`",
                words.accuracy(row["accuracy"]) if row["accuracy"] else words.NOTHING,
                f"{row['latency_us']['median']:.1f} µs",
                words.ratio(multiple(row)),
                human_bytes(row["payload_bytes"]),
                row["backend"],
            )
        )
    data = result["data"]
    images = f"{data['n']:,} test images of {data['name']}; " if data else ""
    # With --precision more than were asked for; older results don't keep them.
    kept = len(result["models"][0].get("rounds_us", ()))
    older = "" if kept else ", its interval a bootstrap one of medians over all calls"
    rounds = kept or result["settings"]["rounds"]
    return (
        f"{markdown_table(rows, numbers=False)}\n\n"
        f"{images}one image at a time on {result['settings']['threads']} thread, "
        f"{rounds} interleaved rounds in one run; "
        f"{words.machine(result['environment'])}, {result['created'][:10]}. The ratio is to the "
        f"first row{older}; model is the size without metadata.\n"
    )


def counted(result: Mapping[str, Any]) -> str:
    """Return counts of executed instructions as a Markdown table."""
    header = ("instructions of one inference", *result["boards"].values())
    body = ((f"`{file}`", *counts) for file, *counts in instructions.rows(result))
    return markdown_table([header, *body]) + "\n"


def paired(result: Mapping[str, Any], models: Iterable[Shipped]) -> str:
    """Return a Markdown table of the shipped models, each beside the peer nearest in size."""
    rows = [
        (
            "shipped",
            "against",
            "points of top-1 (95 % interval)",
            "McNemar",
            "latency, multiple of its",
            "bytes",
        ),
    ]
    for model in models:
        found = versus(result, model.info["int8"]["sha256"])
        if not found:
            continue
        ours, peer, difference = found.ours, found.peer, found.difference
        rows.append(
            (
                f"[`{model.name}`](train/zoo/{model.name}.md)",
                found.peer_name,
                f"{words.signed(difference.points)} ({words.signed(difference.low)} to "
                f"{words.signed(difference.high)})",
                words.p_value(difference.test.p).replace(words.SPACE, " "),
                words.ratio(found.latency),
                f"{ours['payload_bytes'] / peer['payload_bytes']:.2f}x",
            )
        )
    return markdown_table(rows) + "\n"


def _sound(path: Path) -> dict[str, Any]:
    """Read a bench whose latencies may be published.

    Raises EdgecifarError if it is marked invalid, or if a file of it could not be measured.
    """
    result = read(path)
    if not result["valid"]:
        why = "; ".join(result["doubts"])
        raise EdgecifarError(f"{path} isn't valid: while it was measured, {why}: measure it again")
    for row in result["models"]:
        if "error" in row:
            raise EdgecifarError(
                f"{path} has no figures of {row['name']} ({row['error']}): measure it again "
                "without that file"
            )
    return result


def measured(models: Iterable[Shipped], studies: Iterable[Mapping[str, Any]] = ()) -> str:
    """Return JSON with top-1 and MACs of the best float model of each architecture.

    The best is the one on validation images, of shipped models and means over a study's seeds.
    """
    best: dict[str, tuple[float, dict[str, Any]]] = {}
    for architecture, name, validation, figures in (*_of_models(models), *_of_studies(studies)):
        if validation > best.get(architecture, (-1.0,))[0]:
            kept = {key: figures[key] for key in ("top1", "low", "high", "seeds", "macs")}
            best[architecture] = validation, {"model": name, **kept}
    listed = {architecture: figures for architecture, (_, figures) in sorted(best.items())}
    return json.dumps({"dataset": _REFERENCE, "architectures": listed}, indent=2) + "\n"


_Found = tuple[str, str, float, Mapping[str, Any]]  # with the top-1 on validation images


def _of_models(models: Iterable[Shipped]) -> Iterator[_Found]:
    for model in models:
        run = model.info["float"]["run"]
        if run["dataset"]["name"] == _REFERENCE:
            validation = model.info["float"]["metrics"]["validation"]["top1"]
            figures = model.test("float") | {"seeds": 1, "macs": run["macs"]}
            yield model.architecture, model.name, validation, figures


def _of_studies(studies: Iterable[Mapping[str, Any]]) -> Iterator[_Found]:
    for result in studies:
        done = [member for member in result["members"] if member["mean"].get("float")]
        for member in done if result["data"]["name"] == _REFERENCE else ():
            mean = study_result.mean_over_seeds(member, "float")
            architecture = member["runs"][0]["stages"][0]["architecture"]
            figures = mean | {"macs": member["features"]["macs"]}
            yield architecture, member["recipe"], study_result.on_validation(member), figures


def _studies(folder: Path) -> list[dict[str, Any]]:
    found = filter(study_result.is_result, sorted(folder.glob("*.json")))
    return [study_result.read(path) for path in found]


@click.command(cls=Program)
@click.option("--check", is_flag=True, help="Change nothing, fail if the figures differ.")
def main(check: bool) -> None:
    """Write tables, picture and model cards from benchmarks/results and train/zoo."""
    root = Path.cwd()
    paths = list(_stale(root)) if check else write_documents(root)
    names = ", ".join(str(path.relative_to(root)) for path in paths)
    if check and paths:
        raise click.ClickException(f"not up to date: {names}: run this without --check")
    click.echo(f"wrote {names}" if paths else "all figures are up to date")


if __name__ == "__main__":
    main()
