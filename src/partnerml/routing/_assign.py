"""Many leads at once: the best candidates of each, chunk by chunk, and then one auction for all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from partnerml.config import BatchConfig
from partnerml.errors import InternalError
from partnerml.pairs._arrays import Floats, Ints
from partnerml.progress import Progress
from partnerml.routing._certificate import NOBODY, Columns, Problem
from partnerml.routing._shares import Group, Share

CHUNK = 1_024  # leads that are looked at together: their candidates take some MB
CandidatesOf = Callable[[slice], tuple[Any, Any]]


@dataclasses.dataclass(frozen=True)
class Assignment:
    """Who gets which lead, and how good that is.

    Attributes
    ----------
    partner : array of int64 of shape (L,)
        Row of the partner; -1 = nobody.
    score : array of shape (L,)
        What that is worth; NaN for nobody.
    price : array of shape (P,)
        What a unit of each partner's capacity is worth; 0 where some is left.
    counts : array of int64 of shape (P,)
        How many leads each gets.
    total : float
        Sum of the scores.
    gap : float
        By how much of the highest sum it falls short at most (certified; under shares, see
        `partnerml.routing._shares`).
    no_candidates : int
        How many leads nobody could get, whatever the others do.
    most : bool or None
        Whether certainly no assignment gives out more leads; None unless coverage came first.
    shares : tuple of Share
        What became of the groups.
    price_of_fairness : float
        What their shares cost, in scores.
    """

    partner: Ints
    score: Floats
    price: Floats
    counts: Ints
    total: float
    gap: float
    no_candidates: int
    most: bool | None
    shares: tuple[Share, ...]
    price_of_fairness: float

    @property
    def given(self) -> int:
        """How many leads are given out."""
        return int(self.counts.sum())


def assign(
    n_leads: int,
    candidates_of: CandidatesOf,
    capacity: Any,
    config: BatchConfig,
    *,
    groups: Sequence[Group] = (),
    progress: Progress | None = None,
    chunk: int = CHUNK,
) -> Assignment:
    """Give out leads so that the sum of scores is highest, within capacity and shares.

    Parameters
    ----------
    n_leads : int
    candidates_of : callable
        Takes a slice of the leads; returns rows of partners, shape (n, any), -1 = none, and their scores. Of these the
        best `config.candidates` are kept, so that memory does not grow with how many are eligible.
    capacity : array of shape (P,)
        How many leads each partner may get; infinite = unlimited.
    config : BatchConfig
    groups : sequence of Group
        Those of `config.shares`.
    progress : Progress, optional
    chunk : int
        How many leads are looked at together.

    Raises
    ------
    MissingExtraError
        If numba is not installed.
    """
    from partnerml.routing._auction import solve, solve_for_coverage

    progress = Progress.silent() if progress is None else progress
    cols, scores = gathered(n_leads, candidates_of, width=config.candidates, chunk=chunk, progress=progress)
    problem = Problem.of(cols, scores, capacity)
    solver = solve_for_coverage if config.coverage_first else solve
    with progress.stage("auction"):
        if groups:
            from partnerml.routing._shares import share_out

            shared = share_out(problem, groups, lambda added: solver(problem, gap=config.gap, subsidy=added))
            found, told, price = shared.solution, shared.groups, shared.price
        else:
            found, told, price = solver(problem, gap=config.gap), (), 0.0
    given = found.slot >= 0
    worth = np.full(n_leads, np.nan)
    worth[given] = problem.taken(found.slot)[1]
    return Assignment(
        partner=problem.partner(found.slot),
        score=worth,
        price=found.price,
        counts=problem.counts(found.slot),
        total=found.certificate.total,
        gap=found.certificate.gap,
        no_candidates=int(np.isneginf(problem.best).sum()),
        most=found.most,
        shares=told,
        price_of_fairness=price,
    )


def gathered(
    n_leads: int, candidates_of: CandidatesOf, *, width: int, chunk: int, progress: Progress
) -> tuple[Columns, Floats]:
    """Return the best candidates of all leads: rows of partners (-1 = none) and scores, both of shape (L, width)."""
    cols = np.full((n_leads, width), NOBODY, dtype=np.int32)
    scores = np.zeros((n_leads, width))
    starts = range(0, n_leads, chunk)
    for start in progress.track(starts, "candidates of leads", total=len(starts)):
        part = slice(start, min(start + chunk, n_leads))
        found, worth = (np.asarray(array) for array in candidates_of(part))
        if found.shape != worth.shape or found.ndim != 2 or len(found) != part.stop - start:
            raise InternalError(
                f"candidates of leads {start} to {part.stop - 1} have shapes {found.shape} and {worth.shape}"
            )
        kept = best(found, worth, width)
        cols[part, : kept.shape[1]] = np.take_along_axis(found, kept, axis=1)
        scores[part, : kept.shape[1]] = np.take_along_axis(worth, kept, axis=1)
    return cols, scores


def best(cols: Any, scores: Any, width: int) -> Ints:
    """Return the places of the best candidates of each lead, of equal ones the first, shape (n, at most width)."""
    ranked = np.where(cols >= 0, -np.asarray(scores, dtype=np.float64), np.inf)
    return np.argsort(ranked, axis=1, kind="stable")[:, :width]
