"""Whether a recipe that was carried out again reaches what ships from it."""

from pathlib import Path

from edgecifar.benchmarks import words
from edgecifar.benchmarks.finished import read_finished
from edgecifar.train import zoo


def against_shipped(recipe: str, folder: Path) -> str | None:
    """Say how the int8 file in `folder` compares with the one that `recipe` shipped.

    None if nothing ships from that recipe, or it was shipped from other images.
    """
    shipped = next((m for m in zoo.entries() if m.info["recipe"] == recipe), None)
    if not shipped:
        return None
    again = read_finished(folder)
    if again.original.info["dataset"] != shipped.info["float"]["run"]["dataset"]:
        return None
    known, top1 = shipped.test("int8"), again.answers["top1"]
    place = "within" if known["low"] <= top1 <= known["high"] else "outside"
    told = f"{place} the interval of the {shipped.name} that ships: {words.accuracy(known)}"
    return f"int8 {top1:.2f} %, {told}"
