"""Model cards: what a shipped model is for, what it can't do, and what was measured of it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgecifar.benchmarks import words
from edgecifar.benchmarks.against import Versus, versus
from edgecifar.benchmarks.markdown import markdown_table
from edgecifar.benchmarks.statistics import ConfusedPair, confused_pairs
from edgecifar.runtime.tables import human_bytes
from edgecifar.train.zoo import Shipped

_WEAK = 3  # classes and pairs of classes that a card warns of


def card(model: Shipped, result: Mapping[str, Any]) -> str:
    """Return the card of `model` as Markdown; `result` is a bench that may have measured it."""
    parts = [
        f"# {model.name}",
        _summary(model),
        "## What it is for",
        _use(model),
        "## What it is not for",
        _limits(model),
        "## Figures",
        _figures(model, result),
        *_comparison(versus(result, model.info["int8"]["sha256"])),
        "## By class",
        _by_class(model),
        "## Data",
        _data(model),
        "## How it was trained",
        _training(model),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(model: Shipped) -> str:
    run = model.info["float"]["run"]
    height, width = model.image_size
    return (
        f"A classifier of {width}x{height} colour images for {len(run['classes'])} classes: "
        f"{run['parameters']:,} parameters, {run['macs'] / 1e6:.1f} million multiply-accumulates, "
        f"{human_bytes(model.info['int8']['payload_bytes'])} as int8. The int8 file "
        f"`{model.info['int8']['file']}` ships in edgecifar-runtime, the float original "
        f"`{model.info['float']['file']}` in edgecifar, both under Apache-2.0."
    )


def _use(model: Shipped) -> str:
    name = model.name
    classes = ", ".join(model.info["float"]["run"]["classes"])
    return (
        f"Telling what a small picture of one thing shows, on a device without an accelerator: "
        f"{classes}. As a yardstick for other models of its size, and as a start for your own "
        "classes.\n\n"
        "```sh\n"
        f"edgecifar classify photo.jpg --model {name}\n"
        f"edgecifar export {name} --onnx\n"
        f"edgecifar train --weights {name} --data photos.zip    # your own classes\n"
        "```"
    )


def _limits(model: Shipped) -> str:
    figures = model.test("int8")
    classes = [row["name"] for row in figures["per_class"]]
    weak = sorted(figures["per_class"], key=lambda row: row["recall"])[:_WEAK]
    named = ", ".join(f"{row['name']} ({100 * row['recall']:.1f} % found)" for row in weak)
    pairs = confused_pairs(figures["confusion"], top=_WEAK)
    height, width = model.image_size
    return "\n".join(
        [
            f"- It knows {len(classes)} classes and calls everything one of them; a picture of "
            "anything else gets a wrong name, often with confidence. `--min-confidence` helps a "
            "little.",
            f"- It was trained on {width}x{height} pictures that one thing fills. Larger images "
            "are scaled down, so that small things in them are lost.",
            f"- Its weakest classes are {named}. It takes most often {_confusions(pairs, classes)} "
            "(of the test images of that class).",
            "- Nothing was measured on noise, blur, other cameras or images made to deceive it.",
            "- Not for decisions about people, or on which safety depends.",
        ]
    )


def _calibration(model: Shipped, which: str) -> str:
    """Say how far confidence is off; the float original is as it was trained, its files aren't."""
    number = model.info[which]["run"]["divisor"]
    told = "as trained" if which == "float" else f"logits divided by {number:g}"
    return f"{100 * model.test(which)['ece']:.1f} points ({told})"


def _confusions(pairs: Iterable[ConfusedPair], classes: Sequence[str]) -> str:
    return ", ".join(
        f"{classes[pair.true]} for {classes[pair.predicted]} ({pair.count}, {pair.rate:.1%})"
        for pair in pairs
    ).replace("%", " %")


def _figures(model: Shipped, result: Mapping[str, Any]) -> str:
    float_test, int8_test = model.test("float"), model.test("int8")
    rows = [
        ("", "float original", "int8 file"),
        ("top-1 % (95 % interval)", words.accuracy(float_test), words.accuracy(int8_test)),
        ("test images", f"{float_test['n']:,}", f"{int8_test['n']:,}"),
        (
            "validation top-1 % (Keras)",
            *(f"{model.info[w]['metrics']['validation']['top1']:.2f}" for w in ("float", "int8")),
        ),
        ("confidence off by, on average", *(_calibration(model, w) for w in ("float", "int8"))),
        ("bytes without metadata", "", f"{model.info['int8']['payload_bytes']:,}"),
    ]
    for repeat in model.info["repeats"]:
        tops = (words.accuracy(repeat[which]) for which in ("float", "int8"))
        rows.append((f"top-1 % with seed {repeat['seed']}", *tops))
    if not model.info["repeats"]:
        rows.append(("top-1 % with another seed", *2 * ("not trained",)))
    text = markdown_table(rows)
    found = versus(result, model.info["int8"]["sha256"])
    if not found:
        return text
    latency = found.ours["latency_us"]
    return (
        f"{text}\n\nThe int8 file takes {latency['median']:.1f} µs for one image (p90 "
        f"{latency['p90']:.1f}, p99 {latency['p99']:.1f}) on one thread of "
        f"{words.machine(result['environment'])} in {found.ours['backend']}, "
        f"{result['created'][:10]}. Times of another machine differ."
    )


def _comparison(found: Versus | None) -> list[str]:
    """Return the section on the peer's model nearest in size, nothing if none was measured."""
    if not found:
        return []
    ours, peer, difference = found.ours, found.peer, found.difference
    test = difference.test
    rows = [
        ("", "this file", found.peer_name),
        ("top-1 %", *(f"{row['accuracy']['top1']:.2f}" for row in (ours, peer))),
        ("right where the other is wrong", f"{test.only_second:,}", f"{test.only_first:,}"),
        ("median latency", *(f"{row['latency_us']['median']:.1f} µs" for row in (ours, peer))),
        ("bytes without metadata", *(f"{row['payload_bytes']:,}" for row in (ours, peer))),
    ]
    told = (
        f"Measured in one run, on the same {difference.n:,} test images: "
        f"{words.signed(difference.points)} points of top-1 (95 % interval "
        f"{words.signed(difference.low)} to {words.signed(difference.high)}, McNemar's test "
        f"{words.p_value(test.p)}), {words.ratio(found.latency)} times its latency."
    )
    return [f"## Against {found.peer_name}", told, markdown_table(rows)]


def _by_class(model: Shipped) -> str:
    rows = [("class", "images", "precision %", "recall %", "F1 %", "float recall %")]
    both = zip(model.test("int8")["per_class"], model.test("float")["per_class"], strict=True)
    for int8, original in both:
        shares = (int8["precision"], int8["recall"], int8["f1"], original["recall"])
        rows.append((int8["name"], f"{int8['support']:,}", *(f"{100 * s:.1f}" for s in shares)))
    return f"Of the int8 file, on the test images.\n\n{markdown_table(rows)}"


def _data(model: Shipped) -> str:
    data = model.info["float"]["run"]["dataset"]
    told = (
        f"{words.dataset(data['name'])}, training images alone (fingerprint "
        f"`{data['fingerprint'][:16]}`). A fixed tenth of each class was held out, and epoch and "
        "recipe were chosen on it"
    )
    if "test images" in model.info.get("remark", ""):  # which says itself what they were read for
        return f"{told}."
    return f"{told}; the test images decided only that it ships."


def _training(model: Shipped) -> str:
    original, quantized = (model.info[which]["run"] for which in ("float", "int8"))
    versions = ", ".join(f"{name} {version}" for name, version in original["versions"].items())
    told = (
        f"Architecture `{model.architecture}`, trained for {_stage(original)}, then fine-tuned "
        f"with quantization in the loop for {_stage(quantized)}."
    )
    if taught := original.get("teacher"):
        told += f" It learnt from {_named(taught['runs'])}: {_settings(taught)}."
    again = quantized.get("teacher")
    if again and again != taught:
        own = again["models"] == [model.info["float"]["sha256"]]
        whom = "its own float original" if own else _named(again["runs"])
        told += f" In fine-tuning it learnt from {whom}: {_settings(again)}."
    if remark := model.info.get("remark"):
        told += f"\n\n{remark}"
    lines = [
        f"{told}\n",
        f"- float: {_settings(original['recipe'])}",
        f"- int8: {_settings(quantized['recipe'])}",
        f"- versions: {versions}",
        f"- SHA-256 of `{model.info['float']['file']}`: `{model.info['float']['sha256']}`",
        f"- SHA-256 of `{model.info['int8']['file']}` without metadata: "
        f"`{model.info['int8']['sha256']}`",
    ]
    text = "\n".join(lines)
    if model.info["recipe"]:
        text += f"\n\nTo train it again:\n\n```sh\nedgecifar run {model.info['recipe']}\n```"
    return text


def _named(runs: Iterable[str]) -> str:
    """Return the names of teachers, of which several may be of one shape."""
    shapes = Counter(runs)
    return " and ".join(
        f"{times} networks of the shape {name}" if times > 1 else name
        for name, times in shapes.items()
    )


def _stage(run: Mapping[str, Any]) -> str:
    computed = "".join(f"{run[key]}, " for key in ("computed_in", "trained_on") if key in run)
    took = ", ".join(filter(None, (words.training_time(run), words.speed(run))))
    return (
        f"{run['epochs']} epochs (the best was {run['best_epoch']}; seed {run['seed']}, {computed}"
        f"{took})"
    ).replace(words.SPACE, " ")


def _settings(values: Mapping[str, Any]) -> str:
    left_out = {"runs", "models"}
    flat = words.flatten({key: value for key, value in values.items() if key not in left_out})
    return ", ".join(f"{key.lower()} {value}" for key, value in flat.items()).replace(
        words.SPACE, " "
    )
