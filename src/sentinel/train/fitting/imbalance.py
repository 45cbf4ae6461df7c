"""What is done about frauds being few, on the rows that are learned from and on no others."""

from dataclasses import replace

import numpy as np
from imblearn.over_sampling import SMOTE
from imblearn.under_sampling import RandomUnderSampler
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from sentinel.errors import DataProblem
from sentinel.learner import Imbalance
from sentinel.train.learners.fit_rows import FitRows

_NEIGHBOURS = 5
_MOST_CODES = 50


def balanced(train: FitRows, imbalance: Imbalance, seed: int) -> FitRows:
    """The rows to learn from: as many frauds as legitimate transactions, by weight or by number."""
    match imbalance:
        case "none":
            return train
        case "class_weight":
            return with_weights(train, fraud_weight(train))
        case "undersample":
            return _undersampled(train, seed)
        case "smote":
            return _with_synthetic_frauds(train, seed)


def fraud_weight(part: FitRows) -> float:
    """How many legitimate rows there are for each fraud, by what they stand for."""
    of_frauds = float(part.weights[part.labels == 1].sum(dtype=np.float64))
    return (float(part.weights.sum(dtype=np.float64)) - of_frauds) / of_frauds


def with_weights(part: FitRows, fraud: float) -> FitRows:
    """The same rows, of which every fraud weighs so many times as much."""
    return replace(part, weights=part.weights * np.where(part.labels == 1, fraud, 1).astype(np.float32))


def _undersampled(train: FitRows, seed: int) -> FitRows:
    sampler = RandomUnderSampler(random_state=seed)
    sampler.fit_resample(np.arange(len(train))[:, None], train.labels)
    kept = np.sort(sampler.sample_indices_)
    return FitRows(train.rows[kept], train.labels[kept], train.weights[kept], train.codes)


def _with_synthetic_frauds(train: FitRows, seed: int) -> FitRows:
    """SMOTE (Chawla et al., JAIR 2002): a synthetic fraud lies between a fraud and one of its five nearest frauds.

    Distances are of numbers in units of their deviation, with medians where they are missing; another code, and a
    number that only one of the two has, count as one unit (of a category the most frequent codes alone). The codes of a
    synthetic fraud, and which of its numbers are missing, are those of the real fraud nearest to it.
    """
    if train.frauds < 2 or 2 * train.frauds > len(train):
        raise DataProblem(
            f"SMOTE needs two frauds at least and fewer frauds than legitimate transactions: the training part has "
            f"{train.frauds:,} among {len(train):,}; choose another imbalance"
        )
    fill, scale = _medians_and_deviations(train)
    frauds = train.rows[train.labels == 1].astype(np.float64)
    numbers = np.where(np.isnan(frauds), fill, frauds) / scale
    codes = [
        (frauds[:, [column]] == np.arange(min(n, _MOST_CODES))) * np.sqrt(0.5) for column, n in train.codes.items()
    ]
    space = np.hstack([numbers, np.isnan(frauds), *codes])
    space[:, list(train.codes)] = 0  # a code is no number
    wanted = len(train) - train.frauds
    sampler = SMOTE(sampling_strategy={1: wanted}, random_state=seed, k_neighbors=min(_NEIGHBOURS, len(frauds) - 1))
    kinds = np.append(np.ones(len(frauds), np.int8), 0)  # SMOTE wants another kind, and looks at none of its rows
    made = sampler.fit_resample(np.vstack([space, space[:1]]), kinds)[0][len(frauds) + 1 :]
    parents = frauds[NearestNeighbors(n_neighbors=1).fit(space).kneighbors(made, return_distance=False)[:, 0]]
    new = made[:, : frauds.shape[1]] * scale
    new[:, list(train.codes)] = parents[:, list(train.codes)]
    new[np.isnan(parents)] = np.nan
    return FitRows(
        np.vstack([train.rows, new.astype(np.float32)]),
        np.concatenate([train.labels, np.ones(len(new), np.int8)]),
        np.concatenate([train.weights, np.ones(len(new), np.float32)]),
        train.codes,
    )


def _medians_and_deviations(train: FitRows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each column; 0 and 1 where there is none, and a deviation of 1 for codes."""
    fill, scale = np.zeros(train.rows.shape[1]), np.ones(train.rows.shape[1])
    for column in range(train.rows.shape[1]):
        known = train.rows[~np.isnan(train.rows[:, column]), column].astype(np.float64)
        if len(known):
            fill[column] = np.median(known)
        if len(known) and column not in train.codes and known.std() > 0:
            scale[column] = known.std()
    return fill, scale
