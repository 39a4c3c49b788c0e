"""The trials of a search in Optuna's storage, which several machines may share."""

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgecifar.benchmarks.search.cost import Cost
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.models.edgenet import Shape, parse

if TYPE_CHECKING:
    import optuna

_COST = "cost of "
_SETTINGS = "settings"
_LARGEST = 10**12  # the distributions of a study may never change: wide enough for any shape


@dataclass(frozen=True)
class Trial:
    """A shape that was trained: top-1 on validation images in percent, and what it costs."""

    shape: Shape
    top1: float
    cost: Cost
    on_front: bool


class Trials:
    """One study, in the order of the work: costs of shapes, a queue, accuracies.

    Raises EdgecifarError if the study was begun with other `settings` (plain values).
    """

    def __init__(self, storage: str, name: str, settings: dict[str, Any]):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self._study = optuna.create_study(
                storage=storage,
                study_name=name,
                directions=["maximize", "minimize"],
                load_if_exists=True,
            )
        except Exception as error:  # a driver's own exception, or SQLAlchemy's
            reason = str(error).strip().splitlines()[0]
            raise EdgecifarError(f"the storage {storage} can't be opened: {reason}") from error
        known = self._study.user_attrs.get(_SETTINGS)
        if known is None:
            self._study.set_user_attr(_SETTINGS, settings)
        elif known != settings:
            other = next(key for key in settings if known.get(key) != settings[key])
            raise EdgecifarError(
                f"this search was begun with {other} {known.get(other)!r}, not "
                f"{settings[other]!r}: choose another --out"
            )

    @property
    def costs(self) -> dict[Shape, Cost]:
        """What is measured already, on whichever machine."""
        found = self._study.user_attrs.items()
        return {
            parse(key.removeprefix(_COST)): Cost(**value)
            for key, value in found
            if key.startswith(_COST)
        }

    def note_cost(self, shape: Shape, cost: Cost) -> None:
        """Keep a measurement."""
        self._study.set_user_attr(f"{_COST}{shape}", cost.as_dict())

    def queue(self, shape: Shape, figures: dict[str, int]) -> None:
        """Ask for a shape to be trained, once; `figures` become the trial's parameters."""
        import optuna

        wanted = str(shape)
        dead = (optuna.trial.TrialState.FAIL,)
        trials = self._study.get_trials(deepcopy=False)
        if not any(t.user_attrs.get("shape") == wanted and t.state not in dead for t in trials):
            self._study.enqueue_trial(figures, user_attrs={"shape": wanted, "figures": [*figures]})

    def take(self) -> "tuple[optuna.Trial, Shape] | None":
        """Take a shape from the queue; None if nobody has left any."""
        import optuna

        if not self._study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.WAITING]):
            return None
        trial = self._study.ask()
        if "shape" not in trial.user_attrs:  # another machine was quicker
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return None
        trial.set_user_attr("worker", [socket.gethostname(), os.getpid()])
        for key in trial.user_attrs["figures"]:
            trial.suggest_int(key, 0, _LARGEST)
        return trial, parse(trial.user_attrs["shape"])

    def finish(self, trial: "optuna.Trial", top1: float, latency: float) -> None:
        """Record what a shape reached."""
        self._study.tell(trial, [top1, latency])

    def give_back_abandoned(self) -> None:
        """Free what a killed process of this machine had taken, for `queue` to take it up again."""
        import optuna

        running = self._study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING])
        for trial in running:
            host, process = trial.user_attrs.get("worker", [socket.gethostname(), 0])
            if host == socket.gethostname() and not _lives(process):
                self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)

    def results(self) -> list[Trial]:
        """Return the trained shapes, the most accurate first."""
        import optuna

        costs, done = self.costs, [optuna.trial.TrialState.COMPLETE]
        front = {trial.number for trial in self._study.best_trials}
        trials = [
            Trial(shape, trial.values[0], costs[shape], trial.number in front)
            for trial in self._study.get_trials(deepcopy=False, states=done)
            for shape in [parse(trial.user_attrs["shape"])]
        ]
        return sorted(trials, key=lambda trial: -trial.top1)


def _lives(process: int) -> bool:
    if process in (0, os.getpid()):  # never noted, or an earlier search of this process
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
