"""Carries out packed fits with NumPy and JAX alone: `python machine.py FOLDER`.

FOLDER is what `edgecifar ahead pack` wrote. Each fit ends in a file in its `results`, and is not
done again; `edgecifar ahead take` makes runs of them.
"""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import jax
import numpy as np
from jax import numpy as jnp

try:  # JAX has no public way to run a StableHLO program
    from jax._src import compiler
    from jax._src.interpreters import mlir
    from jax._src.lib import xla_client
    from jax._src.lib.mlir import ir
except ImportError as error:
    sys.exit(f"{error}: install JAX 0.10.2 to 0.11.2, with which this was tried")

_SMALLEST = 1e-30  # probability of which a teacher's logarithm is taken
_COLUMNS = ("loss", "accuracy", "val_loss", "val_accuracy")
_executables: dict[str, object] = {}  # by what they do: seeds and teachers of one shape share one

jax.config.update("jax_enable_x64", True)  # Keras counts steps in 64 bits


class DivergedError(Exception):
    """The loss of a fit is no longer finite."""


class Program:
    """A program of `edgecifar.train.ahead.programs`, with what it was compiled to here."""

    def __init__(self, how: dict, executable):
        self.how = how
        self.executable = executable

    def __call__(self, state: list, **arguments) -> tuple[list, dict]:
        """Return its results, and new arrays by their places in the state.

        The arrays that they replace are given up.
        """
        given = [*(arguments[name] for name in self.how["arguments"])]
        given += [state[place] for place in self.how["reads"]]
        outputs = self.executable.execute_sharded(given).disassemble_into_single_device_arrays()
        outputs, results = [copies[0] for copies in outputs], self.how["results"]
        return outputs[:results], dict(zip(self.how["writes"], outputs[results:], strict=True))


class Machine:
    """A packed folder on this machine."""

    def __init__(self, folder: Path):
        self.folder = folder
        images = np.load(folder / "images.npz")
        self._train = {key: _put(images[f"train_{key}"]) for key in ("images", "labels")}
        self._validation = {key: _put(images[f"validation_{key}"]) for key in ("images", "labels")}
        self._said: dict[tuple, list] = {}
        self._compiler = ThreadPoolExecutor(1)  # several would wait for one another's measurements
        self._compiling: dict[str, Future] = {}

    def compile_ahead(self, fits: list[dict]) -> None:
        """Begin to compile what fits need, in that order, which goes on while the first train."""
        for fit in fits:
            programs = fit["programs"]
            for how in (programs["epoch"], programs["validation"], *programs["answers"]):
                self._executable(how["code"])

    def close(self) -> None:
        """Give up compiling what isn't begun."""
        self._compiler.shutdown(cancel_futures=True)

    def fit(self, fit: dict) -> None:
        """Carry out a fit, and write the best validated weights and the record of each epoch.

        Raises DivergedError if a loss stops being finite.
        """
        name, start = fit["name"], np.load(self.folder / "starts" / f"{fit['name']}.npz")
        state = [_put(start[str(number)]) for number in start["numbers"]]
        epoch, validation = (self._program(fit["programs"][key]) for key in ("epoch", "validation"))
        answers = self._answers(fit)
        count, batch, schedule = len(self._train["labels"]), fit["batch_size"], start["rates"]
        history, best = [], (-1.0, 0.0)
        for number, rates in enumerate(schedule):
            began = time.perf_counter()
            order = np.random.default_rng([fit["seed"], number]).permutation(count)
            results, new = epoch(
                state,
                **self._train,
                order=_put(order.astype(np.int32)),
                rates=_put(rates),
                moment=_moment(fit["seed"], number),
                **({"answers": answers[number % len(answers)]} if answers else {}),
            )
            state = [new.get(place, array) for place, array in enumerate(state)]
            figures = [float(result) for result in results]  # waits for the epoch's end
            trained = time.perf_counter() - began
            figures += self._validate(validation, state)
            if not np.isfinite(figures).all():
                raise DivergedError(f"{name}: the loss is no longer finite in epoch {number + 1}")
            row = {"epoch": number + 1, **dict(zip(_COLUMNS, figures, strict=True))}
            row |= {"learning_rate": float(rates[-1]), "seconds": time.perf_counter() - began}
            history.append(row | {"images_per_second": count // batch * batch / trained})
            if (value := (row["val_accuracy"], -row["val_loss"])) > best:
                best, best_epoch = value, number + 1
                kept = [jnp.copy(state[place]) for place in fit["kept"]]
            _say(f"{name} {number + 1}/{len(schedule)}: {100 * row['val_accuracy']:.2f} %")
            if 0 < fit["early_stopping"] <= number + 1 - best_epoch:
                break
        self._keep(fit, kept, {"history": history, "best_epoch": best_epoch})

    def _keep(self, fit: dict, weights: list, record: dict) -> None:
        """Write the best weights of a fit, and its record with what it was made by."""
        name = fit["name"]
        arrays = {str(place): np.asarray(array) for place, array in enumerate(weights)}
        _write_whole(self._weights(name), lambda file: np.savez(file, **arrays))
        device = {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
        told = json.dumps({**self._made_by(fit), **record, **device}).encode()
        _write_whole(self._record(name), lambda file: file.write(told))

    def _validate(self, validation: Program, state: list) -> list[float]:
        """Return loss and accuracy; the state stays as it is."""
        spare = list(state)
        for place in validation.how["writes"]:
            spare[place] = jnp.copy(state[place])
        return [float(result) for result in validation(spare, **self._validation)[0]]

    def is_done(self, fit: dict) -> bool:
        """Tell whether a fit was carried out, by this package and with the teachers of now."""
        path = self._record(fit["name"])
        return path.exists() and self._made_by(fit).items() <= json.loads(path.read_text()).items()

    def _made_by(self, fit: dict) -> dict:
        """Return the SHA-256 of what a result is of: its fit, its weights and its teachers."""
        weights, *teachers = map(self._digest, (fit["name"], *fit["teachers"]))
        return {"fit": fit["digest"], "weights": weights, "teachers": teachers}

    def _answers(self, fit: dict) -> list:
        """Return what the teachers say of each view, which is asked once for all their pupils.

        These are logarithms of mean probabilities, float16 [count, classes].
        """
        panel = []
        for teacher, how in zip(fit["teachers"], fit["programs"]["answers"], strict=True):
            weights = np.load(self._weights(teacher))
            arrays = [_put(weights[str(place)]) for place in range(len(weights.files))]
            panel.append((self._program(how), arrays))
        if not panel:
            return []
        # Views differ by seeds, and by settings, which are in the programs.
        views = (fit["seed"], *fit["teachers"], *(ask.executable for ask, _ in panel))
        tables = self._said.setdefault(views, [])
        for view in range(len(tables), fit["views"]):
            asked = {"images": self._train["images"], "moment": _moment(fit["seed"], view)}
            said = [ask(weights, **asked)[0][0] for ask, weights in panel]
            mean = sum(said) / len(said)
            tables.append(jnp.log(jnp.maximum(mean, _SMALLEST)).astype(jnp.float16))
        return tables[: fit["views"]]

    def _program(self, how: dict) -> Program:
        return Program(how, self._executable(how["code"]).result())

    def _executable(self, code: str) -> Future:
        if code not in self._compiling:
            path = self.folder / "programs" / code
            self._compiling[code] = self._compiler.submit(compiled, path)
        return self._compiling[code]

    def _digest(self, name: str) -> str | None:
        """Return the SHA-256 of a fit's weights, None without any."""
        path = self._weights(name)
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None

    def _weights(self, name: str) -> Path:
        return self.folder / "results" / f"{name}.npz"

    def _record(self, name: str) -> Path:
        return self.folder / "results" / f"{name}.json"


def compiled(code: Path):
    """Compile a StableHLO program for the first device, if none that does the same was."""
    device = jax.devices()[0]
    options = compiler.get_compile_options(num_replicas=1, num_partitions=1)
    devices = xla_client.DeviceList((device,))
    with mlir.make_ir_context():
        module = ir.Module.parse(code.read_bytes())
        _remove_copies(module)
        said = _renamed(module.operation.get_asm())
        if said not in _executables:
            _say(f"compiling {code.name}")
            _executables[said] = compiler.backend_compile_and_load(
                device.client, module, devices, options, []
            )
        return _executables[said]


def _renamed(code: str) -> str:
    """Return a program's text with numbered functions, which TensorFlow names by all it traced."""
    names: dict[str, int] = {}
    return re.sub(r"@[\w.]+", lambda name: f"@{names.setdefault(name[0], len(names))}", code)


def _remove_copies(module) -> None:
    """Take out an operation that TensorFlow emits and that no other compiler takes."""
    copies = []

    def look(operation):
        if operation.name == "mhlo.copy":
            copies.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(look)
    for copy in copies:
        copy.results[0].replace_all_uses_with(copy.operands[0])
        copy.operation.erase()


def _moment(seed: int, number: int) -> jax.Array:
    """Return what a program draws from, int32; larger seeds wrap, as TensorFlow's do."""
    return _put(np.array([seed, number], np.int64).astype(np.int32))


def _put(array) -> jax.Array:
    return jax.device_put(np.asarray(array), jax.devices()[0])


def _write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file that has its name only when it is whole."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        write(file)
    os.replace(part, path)


def _say(text: str) -> None:
    print(text, flush=True)


def _carry_out(fits: list[dict], machine: Machine) -> list[str]:
    """Carry out what isn't done yet of `fits`; return which diverged, and whom these teach."""
    failed: list[str] = []
    for fit in fits:
        if set(fit["teachers"]) & set(failed):
            failed.append(fit["name"])
        elif not machine.is_done(fit):
            try:
                machine.fit(fit)
            except DivergedError as error:
                _say(f"{error}; going on with the others")
                failed.append(fit["name"])
    return failed


def main() -> None:
    """Carry out what isn't done yet of the folder that is named on the command line."""
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "plan.json").exists():
        sys.exit("usage: python machine.py FOLDER, with what `edgecifar ahead pack` wrote")
    folder = Path(sys.argv[1])
    (folder / "results").mkdir(exist_ok=True)
    fits = json.loads((folder / "plan.json").read_text())["fits"]
    device = jax.devices()[0]
    lost = "; if there is a GPU, this JAX isn't built for it" if device.platform == "cpu" else ""
    _say(f"JAX {jax.__version__} computes on {device.device_kind}{lost}")
    machine = Machine(folder)
    machine.compile_ahead([fit for fit in fits if not machine.is_done(fit)])
    try:
        failed = _carry_out(fits, machine)
    finally:
        machine.close()
    if failed:
        sys.exit(
            f"failed: {', '.join(failed)}. Take what is finished, then pack these again with a "
            "lower learning_rate"
        )


if __name__ == "__main__":
    main()
