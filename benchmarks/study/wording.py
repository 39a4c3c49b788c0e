"""What a member of a study comes to, in the words of its tables."""

from collections.abc import Mapping
from typing import Any

from edgecifar.benchmarks import words


def seeds(member: Mapping[str, Any], role: str) -> str:
    """Say of how many seeds a mean is: `3 seeds`, or `1 of 3 seeds` while others are missing."""
    found, planned = member["mean"][role]["seeds"], len(member["seeds"])
    told = words.number(planned, "seed")
    return told if found == planned else f"{found} of {told}"


def outcome(member: Mapping[str, Any]) -> str:
    """Say `met`, or `missed by` so many points of what its float model was to reach.

    While there are fewer seeds than planned it is `met so far`, `missed so far by 0.89`; nothing
    if nothing was asked or is known.
    """
    asked, mean = member.get("asked"), member["mean"].get("float")
    if asked is None or not mean:
        return ""
    so_far = " so far" if mean["seeds"] < len(member["seeds"]) else ""
    short = round(asked - mean["top1"], 9)  # 100 * (9540 / 10000) is a hair below 95.4
    return f"met{so_far}" if short <= 0 else f"missed{so_far} by {short:.2f}"
