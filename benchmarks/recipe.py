"""Whole recipes: everything that `edgecifar run` does, as one file states it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from edgecifar.compress.distil import Distillation
from edgecifar.compress.prune import Pruning
from edgecifar.compress.quantize import Quantization
from edgecifar.compress.sparsify import Sparsification
from edgecifar.runtime.benchmark import MOST_THREADS
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import models
from edgecifar.train.parsing import did_you_mean, from_mapping, load_toml
from edgecifar.train.settings import Training, require_seed
from edgecifar.train.transfer import Transfer, usual

TAUGHT_BY = "taught_by"
_FOLDER = files("edgecifar.benchmarks") / "recipes"


@dataclass(frozen=True)
class Variant:
    """A smaller or sparser form of a recipe's float model, made of it before int8.

    Steps that are left out are skipped. With `distil` the float model teaches every step, that to
    int8 included, which may have settings of its own. `export` names the formats of the variant's
    own float model; the int8 file of the fine-tuned one comes with them.
    """

    prune: Pruning | None = None
    sparsify: Sparsification | None = None
    distil: bool | None = None  # as the recipe has it, unless stated
    quantize: Quantization | None = None  # likewise
    export: tuple[str, ...] = ("int8",)

    def __post_init__(self) -> None:
        if not self.steps:
            raise EdgecifarError("a variant changes nothing: give it prune or sparsify")
        _require_formats(self.export)

    @property
    def steps(self) -> tuple[Pruning | Sparsification, ...]:
        """The steps before int8, in their order."""
        return tuple(step for step in (self.prune, self.sparsify) if step)

    def run_names(self, parent: str) -> tuple[str, ...]:
        """Return what the run of each step is called, such as `net-p50`, `net-p50-s80`."""
        found = [parent]
        for step in self.steps:
            found.append(step.run_name(found[-1]))
        return tuple(found[1:])

    def shortened(self) -> "Variant":
        """Return this with one round and one epoch of everything."""
        return replace(
            self,
            prune=self.prune and replace(self.prune, rounds=1, epochs=1),
            sparsify=self.sparsify and replace(self.sparsify, ramp=1, epochs=1),
            quantize=self.quantize and replace(self.quantize, epochs=1),
        )


@dataclass(frozen=True)
class Recipe:
    """A run from images to report.

    `transfer` starts from pretrained weights, and `train` are then the settings of its second
    phase. `export` names the formats of the float model; what is fine-tuned for int8 becomes a
    TFLite file, and an ONNX file too if "onnx-int8" is among them. Every file is benchmarked
    against the first format.

    `teachers` are other recipes, names or TOML files beside this one: their float models are
    trained first, in folders beside this recipe's, and teach both the float and the int8 model.

    `variants` are made of the float model too, each with its int8 form. With `self_distil` the
    float model teaches what is made of it.
    """

    architecture: str
    title: str
    train: Training = field(default_factory=Training)
    transfer: Transfer | None = None
    teachers: tuple[str, ...] = ()
    distil: Distillation = field(default_factory=Distillation)
    fine_tune_int8: bool = True  # false for networks that the quantization toolkit can't take
    quantize: Quantization = field(default_factory=Quantization)
    self_distil: bool = False
    variants: tuple[Variant, ...] = ()
    export: tuple[str, ...] = ("float32", "int8", "onnx")
    seed: int = 0
    threads: int = 1  # of the benchmark
    quick: bool = False  # one epoch a stage, to see whether all of it works

    def __post_init__(self) -> None:
        _require_formats(self.export)
        require_seed(self.seed)
        if not (self.export or self.fine_tune_int8 or any(v.export for v in self.variants)):
            raise EdgecifarError(
                "export is empty and fine_tune_int8 is false: name a format, or leave one out"
            )
        if not 1 <= self.threads <= MOST_THREADS:
            raise EdgecifarError(f"threads is {self.threads}: it must be 1 to {MOST_THREADS}")
        if self.transfer and self.teachers:
            raise EdgecifarError(
                "a recipe with teachers starts from random weights: leave out transfer or teachers"
            )
        if self.teachers and self.train.label_smoothing:
            raise EdgecifarError(
                "train.label_smoothing blurs what teachers say: set it to 0, or leave out teachers"
            )
        self._require_own_names()

    def _require_own_names(self) -> None:
        """Raise EdgecifarError if two runs of the variants would get one name."""
        made: dict[str, tuple] = {}
        for variant in self.variants:
            names = variant.run_names(self.architecture)
            for name, step in zip(names, variant.steps, strict=True):
                if made.setdefault(name, (step, variant.distil)) != (step, variant.distil):
                    raise EdgecifarError(f"variants make {name} in two ways: let them agree")
        ends = [variant.run_names(self.architecture)[-1] for variant in self.variants]
        for name in ends:
            if ends.count(name) > 1:
                raise EdgecifarError(f"two variants are called {name}: leave one out")

    def shortened(self) -> "Recipe":
        """Return this with one epoch a stage, for its teachers too."""
        head = self.transfer and replace(self.transfer.head, epochs=1)
        return replace(
            self,
            quick=True,
            train=replace(self.train, epochs=1),
            transfer=self.transfer and replace(self.transfer, head=head),
            quantize=replace(self.quantize, epochs=1),
            variants=tuple(variant.shortened() for variant in self.variants),
        )

    @property
    def identity(self) -> "Recipe":
        """What settles the accuracies: equal for recipes that differ in nothing else."""
        teachers = tuple(Path(teacher).stem for teacher in self.teachers)
        return replace(self, title="", threads=1, teachers=teachers)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return json.loads(json.dumps(asdict(self)))

    def taught_by(self) -> list[dict[str, Any]]:
        """Return plain values of the teachers' recipes, with those of theirs under `TAUGHT_BY`."""
        recipes = [read(teacher) for teacher in self.teachers]
        return [recipe.as_json() | {TAUGHT_BY: recipe.taught_by()} for recipe in recipes]

    def is_taught_by(self, kept: Sequence[Mapping[str, Any]] | None) -> bool:
        """Tell whether teachers made by the recipes `kept`, as `taught_by` gives them, are these.

        None stands for teachers of whom nothing is known, as in older results.
        """
        if kept is None:
            return True
        recipes = [read(teacher) for teacher in self.teachers]
        return len(kept) == len(recipes) and all(
            recipe._agrees(settings, _float_model)
            for recipe, settings in zip(recipes, kept, strict=True)
        )

    def is_that_of(self, settings: Mapping[str, Any], *, variants: bool = True) -> bool:
        """Tell whether `settings`, a recipe as JSON has it, give the same results as this one.

        They may hold `taught_by` under `TAUGHT_BY`. Without `variants` those of the float and the
        int8 model alone count.
        """
        return self._agrees(settings, lambda r: r if variants else replace(r, variants=()))

    def _agrees(self, settings: Mapping[str, Any], part: "Callable[[Recipe], Recipe]") -> bool:
        settings = dict(settings)
        taught_by = settings.pop(TAUGHT_BY, None)
        try:
            other = from_mapping(Recipe, settings)
        except EdgecifarError:  # of a version with other settings
            return False
        return part(other.identity) == part(self.identity) and self.is_taught_by(taught_by)


def teaching_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run or a recipe's JSON notes of its teachers' recipes: nothing if it is old."""
    return {TAUGHT_BY: record[TAUGHT_BY]} if TAUGHT_BY in record else {}


def _float_model(recipe: Recipe) -> Recipe:
    """Return a recipe with what settles its float model, by which it teaches, and no more."""
    return Recipe(
        recipe.architecture,
        title="",
        train=recipe.train,
        transfer=recipe.transfer,
        teachers=recipe.teachers,
        distil=recipe.distil,
        seed=recipe.seed,
    )


def names() -> tuple[str, ...]:
    """Return the names of the recipes that come with edgecifar."""
    # A study is a table of recipes: see `edgecifar.benchmarks.study.plan`.
    return tuple(name for name in shipped_names() if not is_study(name))


def shipped_names() -> tuple[str, ...]:
    """Return the names of the recipes and studies that come with edgecifar."""
    found = (Path(entry.name) for entry in _FOLDER.iterdir())
    return tuple(sorted(path.stem for path in found if path.suffix == ".toml"))


def is_study(name: str) -> bool:
    """Tell a study's name or file from a recipe's."""
    return Path(name).stem.endswith("-study")


def folder_name(name: str, *, quick: bool = False, seed: int = 0) -> str:
    """Return what the folder of a recipe's results is called, such as `advanced-seed1`."""
    return Path(name).stem + (f"-seed{seed}" if seed else "") + ("-quick" if quick else "")


def read(name: str) -> Recipe:
    """Read a recipe by its name, or from a TOML file of the user's own.

    A recipe with a `base`, a name or a file beside it, states what differs from that one; what it
    leaves out of `train` and `transfer` is as suits its network and its first weights.
    """
    return from_mapping(Recipe, _suited(_completed(_settings(name))))


def stated(name: str, kind: str, known: tuple[str, ...]) -> dict[str, Any]:
    """Return what the TOML file `name` states, or that called so among the `known` of edgecifar.

    `kind` is what it is called in errors: a recipe, a study.
    """
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise EdgecifarError(f"{name} is missing: give a {kind}'s file or one of its names")
    elif name in known:
        path = _FOLDER / f"{name}.toml"
    else:
        raise EdgecifarError(f"unknown {kind} {name!r}{did_you_mean(name, known)}")
    return load_toml(path, where=name)


def _settings(name: str, heirs: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what a recipe and those it is based on state; `heirs` are based on it."""
    if name in heirs:
        raise EdgecifarError(f"the recipe {name} is based on itself: take out its base")
    own = stated(name, "recipe", names())
    if isinstance(teachers := own.get("teachers"), list):
        own["teachers"] = [_beside(name, t) if isinstance(t, str) else t for t in teachers]
    base = own.pop("base", None)
    if base is not None and not isinstance(base, str):
        raise EdgecifarError(f"base of {name} is {base!r}: give a recipe's name or file")
    known = _settings(_beside(name, base), (*heirs, name)) if base else {}
    _require_effect(name, own, settings := _merged(known, own))
    return settings


def _beside(name: str, other: str) -> str:
    """Return a recipe's name as it is, and a file's that the recipe `name` states by its path."""
    return str(Path(name).parent / other) if other.endswith(".toml") else other


def _require_effect(name: str, own: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raise EdgecifarError for a table that `name` states and that nothing heeds."""
    variants = _variants(settings)
    taught = settings.get("teachers") or settings.get("self_distil")
    if "distil" in own and not taught and not any(v.get("distil") for v in variants):
        raise EdgecifarError(
            f"{name} has [distil] and nobody teaches: state teachers or self_distil = true"
        )
    quantizes = "quantize" in own or any("quantize" in variant for variant in _variants(own))
    if quantizes and settings.get("fine_tune_int8") is False:
        raise EdgecifarError(f"{name} has [quantize] and fine_tune_int8 = false: leave one out")


def _variants(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tables of variants; what is none is refused later on."""
    stated = settings.get("variants")
    return [one for one in stated if isinstance(one, dict)] if isinstance(stated, list) else []


def _suited(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `settings` with what suits the network where they leave that out of `train`."""
    own, architecture = settings.get("train", {}), settings.get("architecture")
    origin = settings.get("transfer")
    if not (isinstance(own, dict) and isinstance(architecture, str)):
        return settings  # which are refused later on
    try:
        if isinstance(origin, dict):
            train, how = map(asdict, usual(architecture, origin.get("weights", Transfer.weights)))
            settings = {**settings, "transfer": _merged(how, origin)}
        else:
            train = models.find(architecture).training
    except EdgecifarError:  # likewise
        return settings
    return {**settings, "train": _merged(train, own)}


def _completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return `settings` with what variants leave out of `quantize` as the recipe has it."""
    variants = settings.get("variants", ())
    shared = settings.get("quantize", {})
    tables = (shared, *variants) if isinstance(variants, list) else (None,)
    if not all(isinstance(table, dict) for table in tables):
        return dict(settings)  # which is refused later on
    own = [
        one | {"quantize": _merged(shared, one["quantize"])}
        if isinstance(one.get("quantize"), dict)
        else one
        for one in variants
    ]
    return {**settings, **({"variants": own} if own else {})}


def _merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `settings` with `changes`, table by table."""
    both = {
        key: _merged(settings[key], value)
        for key, value in changes.items()
        if isinstance(value, dict) and isinstance(settings.get(key), dict)
    }
    return {**settings, **changes, **both}


def _require_formats(formats: tuple[str, ...]) -> None:
    from edgecifar.compress.formats import FORMATS

    for name in formats:
        if name not in FORMATS:
            raise EdgecifarError(f"unknown format {name!r} in export{did_you_mean(name, FORMATS)}")
