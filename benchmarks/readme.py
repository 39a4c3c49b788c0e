"""Write the figures of README.md from the committed results, or check that they agree.

A table stands between `<!-- results: NAME -->` and `<!-- end -->`; its figures are those of
benchmarks/results/NAME.json, a result of `edgecifar bench`. Run from the repository's root as
`python -m edgecifar.benchmarks.readme`.
"""

import re
from pathlib import Path
from typing import Any

import click

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.results import read
from edgecifar.runtime.tables import human_bytes
from edgecifar.train.files import write_text

_BLOCK = re.compile(r"(<!-- results: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(text: str, results: Path) -> str:
    """Return `text` with every marked block written anew from the JSON files in `results`."""

    def block(match: re.Match) -> str:
        return match[1] + table(read(results / f"{match[2]}.json")) + match[3]

    return _BLOCK.sub(block, text)


def table(result: dict[str, Any]) -> str:
    """Return a bench result as a Markdown table and a line on where it was measured."""
    rows = [
        "| file | top-1 % (95 % interval) | median | ratio | model | backend |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["models"]:
        latency, ratio, accuracy = row["latency_us"], row["ratio"], row["accuracy"]
        rows.append(
            f"| `{Path(row['file']).name}` "
            f"| {accuracy['top1']:.2f} ({accuracy['low']:.2f} to {accuracy['high']:.2f}) "
            f"| {latency['median']:.1f} µs "
            f"| {ratio['value']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f}) "
            f"| {human_bytes(row['payload_bytes'])} "
            f"| {row['backend']} |"
        )
    where = result["environment"]
    rows += [
        "",
        f"{result['data']['n']:,} test images of {result['data']['name']}; one image at a time on "
        f"{result['settings']['threads']} thread, {result['settings']['rounds']} interleaved "
        f"rounds in one run; {where['cpu']} ({', '.join(where['features'])}), "
        f"{result['created'][:10]}. The ratio is to the first row; model is the size without "
        "metadata.",
    ]
    return "\n".join(rows) + "\n"


@click.command()
@click.option("--check", is_flag=True, help="Change nothing, fail if the figures differ.")
def main(check: bool) -> None:
    """Write the figures of README.md from benchmarks/results."""
    path = Path("README.md")
    text = path.read_text(encoding="utf-8")
    filled = fill(text, Path("benchmarks/results"))
    if check and filled != text:
        raise EdgecifarError("README.md differs from benchmarks/results: run this without --check")
    if not check:
        write_text(path, filled)


if __name__ == "__main__":
    main()
