"""Many leads at once: chunks change nothing, capacity holds, and what comes out fits together."""

from __future__ import annotations

import numpy as np
import pytest
from tests.oracles import assignment as oracle

from partnerml.config import BatchConfig
from partnerml.errors import InternalError
from partnerml.progress import Progress
from partnerml.routing._assign import assign, best
from partnerml.routing._shares import Group


class Told(Progress):
    def __init__(self):
        self.stages, self.tracked = [], 0

    def track(self, items, description, total=None):
        for item in items:
            self.tracked += 1
            yield item

    def stage(self, name):
        self.stages.append(name)
        return super().stage(name)


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(3)
    leads, partners, width = 500, 40, 12
    cols = np.array([rng.permutation(partners)[:width] for _ in range(leads)])
    cols[rng.random(cols.shape) < 0.2] = -1
    cols[7] = -1
    return cols, rng.beta(2, 4, cols.shape).round(2), rng.poisson(11, partners).astype(float)


def candidates_of(world):
    cols, scores, _ = world
    return lambda part: (cols[part], scores[part])


def test_the_total_is_that_of_a_linear_program(world):
    cols, scores, capacity = world
    found = assign(500, candidates_of(world), capacity, BatchConfig(gap=1e-9))
    assert found.total == pytest.approx(oracle.linear_program(cols, scores, capacity), rel=1e-8)
    assert found.gap <= 1e-9
    assert found.no_candidates == 1
    assert (found.most, found.shares, found.price_of_fairness) == (None, (), 0.0)


def test_what_comes_out_fits_together(world):
    cols, scores, capacity = world
    found = assign(500, candidates_of(world), capacity, BatchConfig())
    given = np.flatnonzero(found.partner >= 0)
    assert found.given == len(given)
    np.testing.assert_array_equal(found.counts, np.bincount(found.partner[given], minlength=40))
    assert (found.counts <= capacity).all()
    for lead in given:
        assert found.score[lead] == scores[lead][list(cols[lead]).index(found.partner[lead])]
    assert np.isnan(found.score[found.partner < 0]).all()
    assert found.total == pytest.approx(np.nansum(found.score))
    assert (found.price[found.counts < capacity] == 0).all()


def test_chunks_change_nothing_and_are_told(world):
    progress = Told()
    whole = assign(500, candidates_of(world), world[2], BatchConfig(), chunk=10_000)
    chunked = assign(500, candidates_of(world), world[2], BatchConfig(), chunk=7, progress=progress)
    np.testing.assert_array_equal(whole.partner, chunked.partner)
    np.testing.assert_array_equal(whole.price, chunked.price)
    assert progress.tracked == 72
    assert progress.stages == ["auction"]


def test_only_the_best_candidates_are_kept(world):
    cols, scores, capacity = world
    kept = best(cols, scores, 3)
    for lead in range(500):
        ranked = sorted(
            (-s, place) for place, (c, s) in enumerate(zip(cols[lead], scores[lead], strict=True)) if c >= 0
        )
        expected = [place for _, place in ranked[:3]]
        assert [place for place in kept[lead] if cols[lead, place] >= 0] == expected
    few = assign(500, candidates_of(world), capacity, BatchConfig(candidates=1))
    many = assign(500, candidates_of(world), capacity, BatchConfig(candidates=12))
    assert few.total < many.total
    wider = assign(500, candidates_of(world), capacity, BatchConfig(candidates=50))
    np.testing.assert_array_equal(wider.partner, many.partner)


def test_coverage_first_gives_out_more(world):
    cols, scores, capacity = world
    scores, capacity = np.where(scores < 0.3, scores - 0.5, scores), capacity * 2
    by_score = assign(500, lambda part: (cols[part], scores[part]), capacity, BatchConfig())
    covered = assign(500, lambda part: (cols[part], scores[part]), capacity, BatchConfig(coverage_first=True))
    assert covered.most
    assert covered.given > by_score.given
    assert covered.total < by_score.total


def test_shares_are_told_with_their_price(world):
    members = np.arange(40) < 10
    plain = assign(500, candidates_of(world), world[2], BatchConfig())
    groups = [Group("tier=boutique", members, least=0.27)]
    assert plain.counts[members].sum() / plain.given < 0.27
    found = assign(500, candidates_of(world), world[2], BatchConfig(), groups=groups)
    (share,) = found.shares
    assert share.leads == found.counts[members].sum()
    assert (share.name, share.shortfall) == ("tier=boutique", 0) if share.share >= 0.27 else share.shortfall > 0
    assert found.price_of_fairness == pytest.approx(plain.total - found.total, abs=1e-9)
    assert found.price_of_fairness >= 0


def test_no_leads_and_nobody():
    empty = assign(0, lambda part: (np.zeros((0, 2), int), np.zeros((0, 2))), np.array([1, 2]), BatchConfig())
    assert (empty.given, empty.total, empty.gap) == (0, 0.0, 0.0)
    nobody = assign(3, lambda part: (np.zeros((3, 0), int), np.zeros((3, 0))), np.array([1, 2]), BatchConfig())
    assert nobody.partner.tolist() == [-1, -1, -1]
    assert nobody.no_candidates == 3


def test_candidates_of_another_shape_are_our_fault():
    with pytest.raises(InternalError, match="leads 0 to 4 have shapes"):
        assign(5, lambda part: (np.zeros((4, 2), int), np.zeros((4, 2))), np.array([1, 2]), BatchConfig())
