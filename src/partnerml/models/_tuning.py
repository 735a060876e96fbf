"""Search for the settings of a model: seeded, pruned by fold, kept in a database, and the same after a kill.

The tree-structured Parzen estimator proposes each trial from the trials before it alone: its seed is drawn for the
place of the trial, not carried over from the last one. What a run leaves half done when it is killed is marked as
failed, and the next run takes the same settings up again from the start; so a search that was broken off and resumed
ends with the trials of one that was not, and a longer search begins with the trials of a shorter one.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np

from partnerml.errors import ConfigError, InternalError, SourceError, require
from partnerml.progress import Progress

Settings = Mapping[str, Mapping[str, float]]
# Given settings, yields the loss over the folds so far, once for each fold; the last is that of the trial.
Objective = Callable[[Settings], Iterable[float]]

DEFAULTS: Settings = MappingProxyType({})
# Settings drawn at random, before there is anything to learn from.
RANDOM_TRIALS = 10
# Trials that must have come to their end before one is given up half-way.
UNPRUNED_TRIALS = 5
# What the database calls the trial that is no choice of the search.
_DEFAULTS = "defaults"


@dataclass(frozen=True)
class Parameter:
    """One thing that is searched: a parameter of a component, and between which values.

    Attributes
    ----------
    component : str
        Such as ``trees``.
    name : str
        Such as ``num_leaves``.
    low, high : float or int
        Both may be chosen.
    default : float or int
        What is trained without tuning; within the bounds. A whole number makes all values whole.
    log : bool
        Whether the search sees its logarithm: for what is thought of in factors.
    """

    component: str
    name: str
    low: float
    high: float
    default: float
    log: bool = True

    def __post_init__(self) -> None:
        if not self.low <= self.default <= self.high or (self.log and self.low <= 0):
            kind = "bounds above 0" if self.log else "bounds"
            got = f"{self.low} to {self.high} and {self.default}"
            raise ConfigError(f"{self.key} needs {kind} that hold its default; got {got}")

    @property
    def key(self) -> str:
        """Component and name, as the database calls it."""
        return f"{self.component}.{self.name}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"key": self.key, "low": self.low, "high": self.high, "default": self.default, "log": self.log}


@dataclass(frozen=True)
class Trial:
    """What came of one choice of settings.

    Attributes
    ----------
    settings : mapping of str to mapping
        Parameters by component; empty for the defaults, which are the first trial.
    losses : tuple of float
        The loss over the folds so far, after each fold.
    pruned : bool
        Whether it was given up before the last fold.
    """

    settings: Settings
    losses: tuple[float, ...]
    pruned: bool

    @property
    def loss(self) -> float:
        """The loss over the folds that it saw."""
        return self.losses[-1]


@dataclass(frozen=True)
class Search:
    """A finished search.

    Attributes
    ----------
    study : str
        Its name in the database.
    trials : tuple of Trial
        In their order; the first are the defaults.
    """

    study: str
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The trial with the lowest loss over all folds; of equals the earliest."""
        return min((trial for trial in self.trials if not trial.pruned), key=lambda trial: trial.loss)


def search(
    objective: Objective,
    space: Sequence[Parameter],
    *,
    trials: int,
    database: str | Path,
    study: str,
    seed: int = 0,
    progress: Progress | None = None,
    description: str = "tuning",
) -> Search:
    """Try settings, each learnt from those before it, and keep every trial in a database.

    A study that is there already is taken up where it ended. The budget is a number of trials and never seconds:
    the same study, seed and number give the same trials on any machine.

    Parameters
    ----------
    objective : callable
        Takes settings and yields the loss over the folds so far, once for each fold. A trial whose loss after a fold
        lies above the median of the finished trials after the same fold is given up.
    space : sequence of Parameter
    trials : int
        How many in all, those that the database holds included. The first are the defaults.
    database : str or Path
        A SQLite file; made where there is none.
    study : str
        A name that is another one whenever data, folds or objective are.
    seed : int
    progress : Progress, optional
    description : str
        What the progress says.

    Raises
    ------
    MissingExtraError
        If Optuna is not installed.
    SourceError
        If the file is there and holds no such database.

    References
    ----------
    Bergstra et al. (2011), Algorithms for hyper-parameter optimization. Golovin et al. (2017), Google Vizier: a service
    for black-box optimization (for giving up at the median).
    """
    if trials < 1:
        raise ConfigError(f"a search needs at least one trial, got {trials}")
    optuna, shown = optuna_module(), progress or Progress.silent()
    with _opened(optuna, Path(database), study) as found:
        _fail_what_was_broken_off(optuna, found)
        done = len(_finished(found))
        for place in shown.track(range(done, trials), description):
            if place == 0:
                _add_defaults(optuna, found, objective, space)
            else:
                _try(optuna, found, objective, space, seed=_seed(seed, place))
        return Search(study, tuple(_trial(frozen) for frozen in _finished(found)[:trials]))


def optuna_module() -> ModuleType:
    """Return Optuna.

    Raises
    ------
    MissingExtraError
        If it is not installed; names the command that installs it.
    """
    return require("optuna", extra="tuning", purpose="tuning")


@contextlib.contextmanager
def _opened(optuna: ModuleType, database: Path, study: str) -> Iterator[Any]:
    """Yield the study, made if it is not there; nothing of it stays open."""
    spoke = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with contextlib.ExitStack() as closing:
            yield _study(optuna, database, study, closing)
    finally:
        optuna.logging.set_verbosity(spoke)


def _study(optuna: ModuleType, database: Path, study: str, closing: contextlib.ExitStack) -> Any:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        storage = optuna.storages.RDBStorage(f"sqlite:///{database}")
        closing.callback(storage.engine.dispose)
        closing.callback(storage.remove_session)
        return optuna.create_study(storage=storage, study_name=study, direction="minimize", load_if_exists=True)
    except (OSError, RuntimeError, SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        reason = str(error).partition("\n")[0]
        raise SourceError(
            f"{database} cannot keep the trials of tuning ({reason}). Move it away or choose another "
            "`output:`; trials that it holds are then tried anew"
        ) from error


def _finished(study: Any) -> list[Any]:
    from optuna.trial import TrialState

    found: list[Any] = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return found


def _fail_what_was_broken_off(optuna: ModuleType, study: Any) -> None:
    state = optuna.trial.TrialState
    for trial in study.get_trials(deepcopy=False, states=(state.RUNNING,)):
        study.tell(trial.number, state=state.FAIL)


def _seed(seed: int, place: int) -> int:
    """Return the seed of a trial: a resumed search must draw what an unbroken one would have drawn."""
    return int(np.random.SeedSequence([seed, place]).generate_state(1)[0])


def _add_defaults(optuna: ModuleType, study: Any, objective: Objective, space: Sequence[Parameter]) -> None:
    losses = [_checked(loss) for loss in objective(DEFAULTS)]
    study.add_trial(
        optuna.create_trial(
            params={parameter.key: parameter.default for parameter in space},
            distributions=_distributions(optuna, space),
            value=losses[-1],
            intermediate_values=dict(enumerate(losses)),
            user_attrs={_DEFAULTS: True},
        )
    )


def _try(optuna: ModuleType, study: Any, objective: Objective, space: Sequence[Parameter], *, seed: int) -> None:
    # one process at a time: there is no other trial under way to keep away from
    study.sampler = optuna.samplers.TPESampler(
        n_startup_trials=RANDOM_TRIALS, multivariate=True, constant_liar=False, seed=seed
    )
    trial = study.ask(fixed_distributions=_distributions(optuna, space))
    before = [_trial(frozen) for frozen in _finished(study)]
    loss = math.nan
    for step, loss in enumerate(map(_checked, objective(_settings(trial.params)))):
        trial.report(loss, step)
        if _hopeless(loss, step, before):
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return
    study.tell(trial, loss)


def _hopeless(loss: float, step: int, before: Sequence[Trial]) -> bool:
    """Say whether a loss after a fold lies above the median of the finished trials.

    Optuna's own pruner takes the best of a trial's losses up to the fold: where the months differ in how hard they
    are, an easy first one would keep every trial alive. After the last fold there is nothing left to save.
    """
    ended = [trial.losses for trial in before if not trial.pruned]
    if len(ended) < UNPRUNED_TRIALS or step + 1 >= len(ended[0]):
        return False
    return loss > statistics.median(losses[step] for losses in ended)


def _distributions(optuna: ModuleType, space: Sequence[Parameter]) -> dict[str, Any]:
    kinds = optuna.distributions
    return {
        parameter.key: (kinds.IntDistribution if isinstance(parameter.default, int) else kinds.FloatDistribution)(
            parameter.low, parameter.high, log=parameter.log
        )
        for parameter in space
    }


def _trial(frozen: Any) -> Trial:
    from optuna.trial import TrialState

    losses = tuple(loss for _, loss in sorted(frozen.intermediate_values.items()))
    settings = DEFAULTS if _DEFAULTS in frozen.user_attrs else _settings(frozen.params)
    return Trial(settings, losses, pruned=frozen.state == TrialState.PRUNED)


def _settings(params: Mapping[str, float]) -> Settings:
    """Return parameters by component; both in alphabetical order, whatever order the database has."""
    settings: dict[str, dict[str, float]] = {}
    for key in sorted(params):
        component, _, name = key.partition(".")
        settings.setdefault(component, {})[name] = params[key]
    return settings


def _checked(loss: float) -> float:
    if not math.isfinite(loss):
        raise InternalError(f"the loss of a trial is {loss}")
    return float(loss)
