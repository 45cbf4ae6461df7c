"""The search for a training: a study that remembers what was tried, and goes on where it was interrupted.

Trials are proposed by a tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011; Optuna). The detector's own
training is tried first, then each learner as it comes; what is searched around is in `spaces`.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import optuna
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from sentinel.detector import Training
from sentinel.durable import make_folder
from sentinel.errors import StorageProblem
from sentinel.learner import Learner
from sentinel.train.fitting.cross_fit import Clock
from sentinel.train.search.spaces import proposed

Attempt = Callable[[Training], float]
"""Tries a training: what it is worth, the more the better."""
_TRAINING, _SECONDS = "training", "seconds"


class Trial(NamedTuple):
    """A training that was tried: what it is worth, and the seconds that the trial took."""

    training: Training
    worth: float
    seconds: float


class Search:
    """A study of one history, one split and one seed; with a file it outlives the process.

    A file that is there is gone on with. What decides whether a trial can be taken over has to be in its name, as
    `study_file` has it.
    """

    def __init__(self, file: Path | None, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            if file is not None:
                make_folder(file.parent)
            storage = InMemoryStorage() if file is None else JournalStorage(JournalFileBackend(str(file)))
            self._study = optuna.create_study(
                storage=storage, study_name="trainings", direction="maximize", load_if_exists=True
            )
            # Which trials are proposed depends on the seed and on how many there are: none is proposed twice
            self._study.sampler = optuna.samplers.TPESampler(seed=seed + len(self._study.trials), multivariate=False)
        except (AssertionError, KeyError, OSError, TypeError, ValueError) as error:  # as Optuna meets what is no study
            raise StorageProblem(
                f"the study {file} cannot be read or written: {error}; remove it to begin anew"
            ) from error

    def trials(self) -> list[Trial]:
        """Those that are done, the best first."""
        done = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        found = [
            Trial(msgspec.convert(one.user_attrs[_TRAINING], Training), one.value or 0.0, one.user_attrs[_SECONDS])
            for one in done
        ]
        return sorted(found, key=lambda trial: -trial.worth)

    def run(
        self, own: Training, learners: Sequence[Learner], attempt: Attempt, budget_s: float, clock: Clock,
        progress: Callable[[int, int], None],
    ) -> None:  # fmt: skip
        """Try trainings until `budget_s` seconds of trials are used, those of earlier runs included.

        The detector's own is always tried. `progress` is told the seconds that are used, and how many there are.
        """
        before = self.trials()
        used, known = sum(trial.seconds for trial in before), {_fingerprint(trial.training) for trial in before}
        firsts = [own, *(msgspec.structs.replace(own, learner=learner) for learner in learners)]
        waiting = [one for one in firsts if _fingerprint(one) not in known]
        while used < budget_s or (waiting and waiting[0] is own):
            progress(min(int(used), int(budget_s)), int(budget_s))
            trial = self._study.ask()
            training = waiting.pop(0) if waiting else self._proposed(trial, own, learners)
            begun = clock()
            worth = attempt(training)
            took = clock() - begun
            trial.set_user_attr(_TRAINING, msgspec.to_builtins(training))
            trial.set_user_attr(_SECONDS, took)
            self._study.tell(trial, worth)
            used += took
        progress(int(budget_s), int(budget_s))

    def _proposed(self, trial: optuna.Trial, own: Training, learners: Sequence[Learner]) -> Training:
        names = [type(learner).__name__ for learner in learners]
        name = trial.suggest_categorical("learner", names)
        learner = learners[names.index(name)]
        return msgspec.structs.replace(own, learner=proposed(trial, learner))


def study_file(folder: Path, **facts: Any) -> Path:
    """Where the trials are kept that were made under these facts: history, plan, split, folds."""
    return folder / f"{hashlib.sha256(msgspec.json.encode(facts, order='deterministic')).hexdigest()[:16]}.study"


def _fingerprint(training: Training) -> bytes:
    return msgspec.json.encode(training, order="deterministic")
