"""The trials of a search in Optuna's storage, which several machines may share."""

import os
import re
import secrets
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecifar.benchmarks.search.cost import Cost
from edgecifar.benchmarks.search.space import Limits
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import replace_file
from edgecifar.train.models.edgenet import Shape, parse

if TYPE_CHECKING:
    import optuna

_COST = "cost of "
_SHORTLIST = "shortlist of "
_DEVICE = "device, by its own word"
_DOUBTS = "doubts"
_MEASURING = "settings of measuring"
_TRAINING = "settings of training"
_GIVEN_UP = "diverged"
# Of a trial whose process hasn't noted itself yet, or was killed before it did.
_UNKNOWN = ("an unknown host", 0, "")
_LARGEST = 10**12  # the distributions of a study may never change: wide enough for any shape


@dataclass(frozen=True)
class Trial:
    """A shape that was trained: top-1 on validation images in percent, and what it costs."""

    shape: Shape
    top1: float
    cost: Cost


class Trials:
    """One study, in the order of the work: costs of shapes, a queue, accuracies.

    `measuring` are the settings that make costs comparable, `training` those that make accuracies
    so: plain values, each under the name by which it is typed. The study keeps the former with its
    first cost, the latter with its first shortlist. Raises EdgecifarError if it has others.
    `shared` storages have several machines at work, each with a `home` of its own, see `home_of`.
    """

    def __init__(
        self,
        storage: str,
        name: str,
        *,
        measuring: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        shared: bool = False,
        home: str = "",
    ):
        import optuna

        self._shared, self._home = shared, home
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
        self._settings = {_MEASURING: dict(measuring or {}), _TRAINING: dict(training or {})}
        for which in self._settings:
            self._require_same(which)

    def _require_same(self, which: str) -> bool:
        """Tell whether the study has settings of its own; EdgecifarError if they are others."""
        known, asked = self._study.user_attrs.get(which), self._settings[which]
        for key in {**asked, **(known or {})} if known is not None else ():
            if known.get(key) != asked.get(key):
                equals = "=" if key.startswith("--set ") else " "
                raise EdgecifarError(
                    f"this search was begun with {key}{equals}{_brief(known.get(key))}, not "
                    f"{_brief(asked.get(key))}: choose another "
                    f"{'--storage' if self._shared else '--out'}"
                )
        return known is not None

    def _settle(self, which: str) -> None:
        """Make settings the study's own."""
        if not self._require_same(which):
            self._study.set_user_attr(which, self._settings[which])

    @property
    def settings(self) -> dict[str, Any]:
        """What makes costs and accuracies comparable, each under the name by which it is typed."""
        return {
            key: value for settings in self._settings.values() for key, value in settings.items()
        }

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
        """Keep a measurement, unless another machine has one already."""
        self._settle(_MEASURING)
        if shape not in self.costs:
            self._study.set_user_attr(f"{_COST}{shape}", cost.as_dict())

    def require_device(self, found: str) -> None:
        """Raise EdgecifarError if the device isn't what it was with the first cost.

        Its address may lead to another board by now, or its interpreter be another version.
        """
        known = self._study.user_attrs.get(_DEVICE)
        if known is None:
            self._study.set_user_attr(_DEVICE, found)
        elif known != found:
            raise EdgecifarError(
                f"this search was measured on {known}, and the device is {found} now: choose "
                f"another {'--storage' if self._shared else '--out'}"
            )

    @property
    def doubts(self) -> list[str]:
        """Why some of the costs may be wrong."""
        kept = [told for key, told in self._study.user_attrs.items() if key.startswith(_DOUBTS)]
        return [*dict.fromkeys(doubt for doubts in kept for doubt in doubts)]

    def note_doubts(self, session: str, doubts: Collection[str]) -> None:
        """Keep reasons to doubt what a session has measured, in place of what it told before."""
        self._study.set_user_attr(f"{_DOUBTS} of {session}", [*doubts])

    def shortlist(self, which: str, choose: Callable[[], list[Shape]]) -> list[Shape]:
        """Return the shapes to train that `which` names, as the first who asked chose them."""
        key = f"{_SHORTLIST}{which}"
        if key not in self._study.user_attrs:
            chosen = [*map(str, choose())]
            self._settle(_TRAINING)
            self._study.set_user_attr(key, chosen)
        self._settle(_TRAINING)  # another may have chosen since this one began
        return [parse(text) for text in self._study.user_attrs[key]]

    def queue(self, shape: Shape, figures: dict[str, int]) -> None:
        """Ask for a shape to be trained, once; `figures` become the trial's parameters."""
        wanted = str(shape)
        if not self._numbers(wanted) and not self.given_up(shape):
            self._study.enqueue_trial(figures, user_attrs={"shape": wanted, "figures": [*figures]})

    def take(self, wanted: Collection[Shape] | None = None) -> "tuple[optuna.Trial, Shape] | None":
        """Take a shape from the queue; None if nobody has left any.

        What isn't `wanted` leaves the queue, unless others may have put it there.
        """
        from optuna.trial import TrialState

        def left_out(shape: str) -> bool:
            return wanted is not None and not self._shared and parse(shape) not in wanted

        while self._study.get_trials(deepcopy=False, states=[TrialState.WAITING]):
            trial = self._study.ask()
            process = os.getpid()
            worker = [socket.gethostname(), process, self._home, _started(process)]
            trial.set_user_attr("worker", worker)
            shape = trial.user_attrs.get("shape")  # None where another machine was quicker
            # Two may have queued a shape at once: the first of its trials alone is carried out.
            if shape is None or left_out(shape) or min(self._numbers(shape)) < trial.number:
                self._study.tell(trial, state=TrialState.FAIL)
                continue
            for key in trial.user_attrs["figures"]:
                trial.suggest_int(key, 0, _LARGEST)
            return trial, parse(shape)
        return None

    def finish(self, trial: "optuna.Trial", top1: float, ratio: float) -> None:
        """Record what a shape reached, and its latency as a ratio, whatever unit limits have.

        Changes nothing if another machine has taken the trial over meanwhile.
        """
        self._study.tell(trial, [top1, ratio], skip_if_finished=True)

    def give_up(self, trial: "optuna.Trial", why: str) -> None:
        """Record why a shape can't be trained: it would fail again in the same way."""
        from optuna.trial import TrialState

        trial.set_user_attr(_GIVEN_UP, why)
        self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

    def give_back_abandoned(self, *, others: bool = False) -> None:
        """Free what a killed process had taken, for `queue` to take it up again.

        Of a shared storage these are the processes of this home and host, and `others` are to be
        taken for dead too. One that isn't shared has had no other host: it is a container's under
        a new name.
        """
        from optuna.trial import TrialState

        here = [socket.gethostname(), self._home]
        for trial in self._running():
            host, process, home, *started = trial.user_attrs.get("worker", _UNKNOWN)
            local = [host, home] == here
            if not _lives(process, *started) if local else others or not self._shared:
                self._study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    def given_up(self, shape: Shape) -> str | None:
        """Return why a shape was given up, None if it wasn't."""
        told = (trial.user_attrs for trial in self._study.get_trials(deepcopy=False))
        reasons = {each["shape"]: each[_GIVEN_UP] for each in told if _GIVEN_UP in each}
        return reasons.get(str(shape))

    def elsewhere(self) -> list[str]:
        """Return what has been taken and not been finished, each with host and process."""
        found = []
        for trial in self._running():
            host, process, *_ = trial.user_attrs.get("worker", _UNKNOWN)
            if shape := trial.user_attrs.get("shape"):
                found.append(f"{shape} ({host}, process {process})")
        return found

    def _running(self) -> "list[optuna.trial.FrozenTrial]":
        from optuna.trial import TrialState

        return self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING])

    def _numbers(self, shape: str) -> list[int]:
        """Return the trials of a shape, but those that failed."""
        from optuna.trial import TrialState

        states = [state for state in TrialState if state != TrialState.FAIL]
        trials = self._study.get_trials(deepcopy=False, states=states)
        return [trial.number for trial in trials if trial.user_attrs.get("shape") == shape]

    def results(self, limits: Limits | None = None) -> list[Trial]:
        """Return the trained shapes, or those that meet `limits`, the most accurate first."""
        from optuna.trial import TrialState

        costs = self.costs
        trials = [
            Trial(shape, trial.values[0], costs[shape])
            for trial in self._study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
            for shape in [parse(trial.user_attrs["shape"])]
            if limits is None or costs[shape].meets(limits)
        ]
        return sorted(trials, key=lambda trial: -trial.top1)


def _brief(value: Any) -> str:
    """Return a value for a message; of a SHA-256 its beginning."""
    return str(value)[:12] if re.fullmatch(r"[0-9a-f]{64}", str(value)) else str(value)


def home_of(folder: Path) -> str:
    """Return what tells a search's folder from any other's, on hosts of one name too."""
    path = folder / "home"
    if not path.exists():
        replace_file(path, secrets.token_hex(8).encode())
    return path.read_text()


def _started(process: int) -> str | None:
    """Return what tells a process from others that had or get its number; None if that isn't known.

    It is the time of its start, in ticks since the machine's.
    """
    try:
        told = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    return told.rpartition(")")[2].split()[19]


def _lives(process: int, started: str | None = None) -> bool:
    """Tell whether the process of this number lives, and is the one that `started` then."""
    if process == os.getpid():  # an earlier search of this process
        return False
    if started and _started(process) not in (started, None):
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
