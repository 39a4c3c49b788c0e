"""Numbers in the form in which people read them."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgecifar.runtime.statistics import Estimate
from edgecifar.train.summary import training_seconds

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"
NOTHING = "\N{EM DASH}"
SPACE = "\N{NO-BREAK SPACE}"
_DATASETS = {"cifar10": "CIFAR-10", "cifar-10": "CIFAR-10", "digits": "scikit-learn digits"}
_TIMES = {"s": 1e6, "ms": 1e3, "µs": 1.0}
_TITLES = {
    "cpu": "CPU",
    "macs": "MACs",
    "ece": "ECE",
    "ema": "EMA",
    "mhz": "MHz",
    "c": "°C",
    "us": "µs",
    "top1": "top-1",
}


def significant(value: float) -> str:
    """Give `value` with three significant digits, without an exponent."""
    if value == 0:
        return "0"
    places = max(0, 3 - len(str(int(abs(value))))) if abs(value) >= 1 else 3
    return f"{value:,.{places}f}"


def microseconds(value: float | None, unit: str | None = None) -> str:
    """Give a time in us, or in ms or s once that is shorter, or in a given unit."""
    if value is None:
        return NOTHING
    unit = unit or time_unit(value)
    return f"{significant(value / _TIMES[unit])}{SPACE}{unit}"


def time_unit(value: float) -> str:
    """Choose the unit in which so many microseconds are a short number."""
    return next((unit for unit, size in _TIMES.items() if value >= size), "µs")


def millijoules(value: float) -> str:
    """Give an energy in mJ."""
    return f"{significant(value)}{SPACE}mJ"


def duration(seconds: float | None) -> str:
    """Give a longer time in seconds, minutes or hours."""
    if seconds is None:
        return NOTHING
    if seconds < 120:
        return f"{seconds:.0f}{SPACE}s"
    if seconds < 7200:
        return f"{seconds / 60:.0f}{SPACE}min"
    return f"{seconds / 3600:.1f}{SPACE}h"


def size(value: float | None) -> str:
    """Give a number of bytes in decimal units: 1 kB is 1000 bytes."""
    if value is None:
        return NOTHING
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= one:
            return f"{significant(value / one)}{SPACE}{unit}"
    return f"{value:.0f}{SPACE}bytes"


def count(value: float | None) -> str:
    """Give a large number in thousands or millions."""
    if value is None:
        return NOTHING
    for unit, one in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 10 * one:
            return f"{significant(value / one)}{SPACE}{unit}"
    return f"{value:,.0f}"


def percent(value: float | None) -> str:
    """Give a percentage with two places."""
    return NOTHING if value is None else f"{value:.2f}{SPACE}%"


def signed(value: float | None) -> str:
    """Give a difference with its sign and two places."""
    if value is None:
        return NOTHING
    sign = "+" if round(value, 2) > 0 else MINUS if round(value, 2) < 0 else ""
    return f"{sign}{abs(value):.2f}"


def times(value: float) -> str:
    """Give a ratio: 3.1x, and 1.04x near one, where the second place matters."""
    return f"{value:.{2 if value < 2 else 1}f}{TIMES}"


def interval(low: float | None, high: float | None, form: Any) -> str:
    """Give `low` to `high`, each through `form`; empty without them."""
    return "" if low is None or high is None else f"{form(low)} to {form(high)}"


def percents(low: float | None, high: float | None) -> str:
    """Give an interval of percentages, without their unit."""
    return interval(low, high, lambda value: f"{value:.2f}")


def accuracy(figures: Mapping[str, Any]) -> str:
    """Give `top1`, `low` and `high`, in percent, as `88.86 (88.23 to 89.46)`."""
    return f"{figures['top1']:.2f} ({percents(figures['low'], figures['high'])})"


def p_value(p: float) -> str:
    """Give a p value as `p = 0.80` or `p < 0.001`."""
    told = f"<{SPACE}0.001" if p < 0.001 else f"={SPACE}{p:.{3 if p < 0.1 else 2}f}"
    return f"p{SPACE}{told}"


def ratio_places(value: float) -> int:
    """Return the decimals that a ratio needs beside its interval: more near one and near none."""
    if value < 0.1:
        return 4
    return 3 if 0.95 < value < 1.05 else 2


def ratio(found: Estimate) -> str:
    """Give a ratio with its interval: `0.994 (0.993 to 0.995)`."""
    places = ratio_places(found.value)
    span = interval(found.low, found.high, lambda value: f"{value:.{places}f}")
    return f"{found.value:.{places}f} ({span})"


def ratios(low: float | None, high: float | None) -> str:
    """Give an interval of ratios."""
    if low is None or high is None:
        return ""
    places = ratio_places((low + high) / 2)
    return interval(low, high, lambda value: f"{value:.{places}f}")


def invalid(doubts: Sequence[str] | None) -> list[str]:
    """Say that latencies are not valid, and why; nothing if there is no doubt of them."""
    return [f"These latencies are not valid: {'; '.join(doubts)}."] if doubts else []


def moment(text: str | None) -> str:
    """Give an ISO 8601 date and time (UTC) without its T and seconds."""
    return f"{text[:10]} {text[11:16]} UTC" if text else ""


def speed(info: Mapping[str, Any]) -> str:
    """Say how fast a run was trained; nothing where that isn't known."""
    return f"{info['images_per_second']:,.0f} images/s" if info.get("images_per_second") else ""


def training(info: Mapping[str, Any]) -> list[str]:
    """Say how fast a run was trained, and on what if that was elsewhere."""
    elsewhere = f"on {info['trained_on']}" if info.get("trained_on") else ""
    return [told for told in (speed(info), elsewhere) if told]


def training_time(info: Mapping[str, Any]) -> str:
    """Give the time that a run was trained for."""
    return duration(training_seconds(info))


def number(count: int, what: str) -> str:
    """Give a small number of things: 1 epoch, 2 epochs."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def dataset(name: str | None) -> str:
    """Give a dataset its usual spelling."""
    return _DATASETS.get((name or "").lower(), name or "")


def on_digits(*names: str) -> bool:
    """Tell whether one of these data sets is scikit-learn's digits."""
    return "digits" in names


def title(key: str) -> str:
    """Turn a key of a JSON file, dotted where nested, into words."""
    words = [_TITLES.get(word, word) for part in key.split(".") for word in part.split("_")]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Turn nested JSON into `{words: text}`, leaving out what is not known."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif key.endswith("_bytes") and isinstance(value, int):
            flat[title(f"{prefix}{key}".removesuffix("_bytes"))] = size(value)
        elif value not in (None, [], ""):
            flat[title(f"{prefix}{key}")] = plain(value)
    return flat


def plain(value: Any) -> str:
    """Give any JSON value as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value)
    return str(value)


def machine(environment: Mapping[str, Any]) -> str:
    """Name the board, else the processor, with its features: `AMD EPYC (avx2, fma)`."""
    where = environment.get("board") or environment.get("cpu") or "an unknown processor"
    features = list(environment.get("features") or ())
    features += [f"{name} withheld" for name in environment.get("withheld", ())]
    return f"{where} ({', '.join(features)})" if features else str(where)


def versions(values: Mapping[str, Any]) -> dict[str, str]:
    """Give packages with their versions, names as they are."""
    return {str(name): str(version) for name, version in values.items() if version}
