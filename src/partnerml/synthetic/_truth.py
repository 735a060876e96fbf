"""What is true of a synthetic ecosystem, and the best that anyone could predict from its records.

The oracle for churn is the exact forward filter of the hidden Markov chain (Rabiner 1989): it knows the laws of
the world, but of a partner only what is on record before the moment of prediction.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import numpy as np
import pandas as pd

from partnerml.errors import InputError
from partnerml.synthetic._deals import WON, Deals
from partnerml.synthetic._engagement import Actions, Engagement
from partnerml.synthetic._leads import Assignments, Leads, pair_log_odds
from partnerml.synthetic._world import (
    DAY,
    DEAL_MARK,
    LEVEL_PRIOR,
    LEVEL_RATES,
    MARKS,
    NEVER,
    SKILL_GRID,
    SKILL_PRIOR,
    START,
    STATE_ACTIVITY,
    STATES,
    TRANSITIONS,
    VERTICAL_SHARES,
    WIN_BASE,
    WIN_MATCH,
    Bools,
    Floats,
    Ints,
    World,
    closing,
    microseconds,
    sigmoid,
    visibility,
)

_STAY: Floats = TRANSITIONS[:, :3]  # without leaving
_LEAVE: Floats = TRANSITIONS[:, 3]
_RATES: Floats = STATE_ACTIVITY[:, None] * LEVEL_RATES  # (states, levels)
_DELAYED_DAYS = 16  # records older than this are complete


@dataclasses.dataclass(frozen=True, repr=False)
class Truth:
    """The latent side of a synthetic ecosystem.

    Attributes
    ----------
    partner_ids, lead_ids : array of str
        Names of the partners and leads to which the arrays below refer by position.
    world, engagement, deals, assignments, leads
        What was simulated, whether on record or not.
    """

    partner_ids: Any
    lead_ids: Any
    world: World
    engagement: Engagement
    deals: Deals
    assignments: Assignments
    leads: Leads

    def path(self) -> pd.DataFrame:
        """Return every change of latent state: partner_id, since (UTC), state."""
        engagement = self.engagement
        since = (self.world.calendar.first + engagement.path_day) * DAY
        frame = pd.DataFrame(
            {
                "partner_id": np.asarray(self.partner_ids)[engagement.path_partner],
                "since": pd.to_datetime(since, unit="us", utc=True).as_unit("us"),
                "state": np.asarray(STATES)[engagement.path_state],
            }
        )
        return frame.sort_values(["partner_id", "since"], ignore_index=True)

    def population(self, as_of: dt.datetime, *, active_within_days: int | None = 90) -> Bools:
        """Return which partners are in the churn population: joined, not left, and active on record."""
        moment = self._midnight(as_of)
        since = moment - active_within_days * DAY if active_within_days is not None else -NEVER
        partners, moments = self._activity(moment)
        active = np.zeros(self.world.n, dtype=bool)
        active[partners[moments >= since]] = True
        return active & (self.world.joined < moment) & (self.engagement.left >= moment)

    def churned(self, as_of: dt.datetime, *, horizon_days: int = 90) -> pd.Series:
        """Return what will come: 1 for partners that are silent throughout the horizon or leave in it.

        Every action counts, whenever it is recorded; the horizon must end within the simulated time.
        """
        moment = self._midnight(as_of)
        end = moment + horizon_days * DAY
        if end > self.world.calendar.end:
            raise InputError(f"as_of {as_of} and horizon_days {horizon_days} reach beyond the simulated days")
        partners, moments = self._activity(None)
        heard = np.zeros(self.world.n, dtype=bool)
        heard[partners[(moments >= moment) & (moments < end)]] = True
        churned = ~heard | (self.engagement.left < end)
        chosen = self.population(as_of)
        return pd.Series(churned[chosen].astype(float), index=self._index(chosen), name="churned")

    def churn_probability(
        self, as_of: dt.datetime, *, horizon_days: int = 90, active_within_days: int | None = 90
    ) -> pd.Series:
        """Return the oracle's probability of churn, for the partners in the population at `as_of`.

        P(no qualifying activity in [as_of, as_of + horizon), or left in it | what is on record before as_of):
        a forward filter over (state, level) that knows the rates, the seasons and how late records come; the
        probability of silence backwards over the horizon; times the chance that no open deal is won in it, under the
        posterior of the partner's selling skill. Deals that are registered but not yet on record are left out of
        the last factor (an effect below .001).

        Parameters
        ----------
        as_of : datetime
            A midnight UTC within the simulated days (naive means UTC).
        horizon_days : int
            Length of the horizon; also the silence that counts as churn.
        active_within_days : int or None
            The population is active in that many days before as_of; None: ever.

        Returns
        -------
        Series
            By partner_id, in the order of the ids.
        """
        moment = self._midnight(as_of)
        today = moment // DAY - self.world.calendar.first
        belief = self._filter(today, moment)
        silent, leaves = self._backwards(today, horizon_days)
        p_silent = np.einsum("snl,sl->n", belief, silent)
        p_leaves = np.einsum("snl,sl->n", belief, leaves)
        p_no_win = self._no_win(moment, today, horizon_days)
        chosen = self.population(as_of, active_within_days=active_within_days)
        probability = np.clip(p_leaves + p_silent * p_no_win, 0.0, 1.0)
        return pd.Series(probability[chosen], index=self._index(chosen), name="churn_probability")

    def win_probability(self, *, horizon_days: int | None = 180) -> pd.DataFrame:
        """Return the true chance that each assignment is won, given that the partner keeps the lead.

        Parameters
        ----------
        horizon_days : int or None
            Won within that many days of assigned_at; None: ever.

        Returns
        -------
        DataFrame
            lead_id, partner_id, assigned_at (UTC), win_probability; in the order of `assignments`.
        """
        made = self.assignments
        closes = np.cumsum(closing())
        if horizon_days is None:
            in_time = np.full(len(made.lead), closes[-1])
        else:
            last = min(horizon_days, len(closes) - 1)
            in_time = np.full(len(made.lead), closes[last - 1])
            if last == horizon_days:  # of the last day, the part before the time of day of assigned_at
                in_time = in_time + (closes[last] - closes[last - 1]) * (made.assigned % DAY / DAY)
        return pd.DataFrame(
            {
                "lead_id": np.asarray(self.lead_ids)[made.lead],
                "partner_id": np.asarray(self.partner_ids)[made.partner],
                "assigned_at": pd.to_datetime(made.assigned, unit="us", utc=True).as_unit("us"),
                "win_probability": made.win_probability * in_time,
            }
        )

    def pair_probability(
        self, lead_id: Any, partner_id: Any, *, at: dt.datetime, open_leads: Any, horizon_days: int = 180
    ) -> Floats:
        """Return the true chance that each pair would be won, whether the lead was given to that partner or not.

        Parameters
        ----------
        lead_id, partner_id : sequence of str, shape (n,)
        at : datetime
            The midnight of the day on which the partner gets the lead.
        open_leads : array of shape (n,)
            How many leads the partner holds by then.
        horizon_days : int
            Won within so many days.

        Returns
        -------
        array of shape (n,)
        """
        leads, partners = (
            pd.Index(np.asarray(ids)).get_indexer(np.asarray(asked))
            for ids, asked in ((self.lead_ids, lead_id), (self.partner_ids, partner_id))
        )
        if (leads < 0).any() or (partners < 0).any():
            raise InputError("pairs: a lead or partner is none of this world")
        day = int(self.world.calendar.day_of(np.array([self._midnight(at)]))[0])
        closes = np.cumsum(closing())
        logit = pair_log_odds(self.world, self.leads, leads, partners, day=day, load=np.asarray(open_leads))
        won: Floats = sigmoid(logit) * closes[min(horizon_days, len(closes)) - 1]
        return won

    def success_probability(self, *, days: int = 365) -> pd.Series:
        """Return the chance of taking part in a won deal within `days` of joining, given the traits at joining.

        Killed Markov chain: each day's registrations are a Poisson stream, thinned to those that are won and
        closed in time. Seasons are averaged out, and a deal that one joins is taken for one's own.
        """
        world = self.world
        shares = VERTICAL_SHARES / VERTICAL_SHARES.sum()
        covered = ((world.verticals[:, None] >> np.arange(len(shares))) & 1) @ shares
        matches = 1 - (1 - covered) ** 3
        logit = WIN_BASE + world.trait_skill[:, None] + SKILL_GRID
        wins = matches[:, None] * sigmoid(logit + WIN_MATCH) + (1 - matches[:, None]) * sigmoid(logit)
        grid = np.linspace(0, 1, 51)
        none_yet = _no_success(grid, days)  # (grid, levels)
        failure = np.zeros(world.n)
        for kind, prior in enumerate(LEVEL_PRIOR):
            rows = world.kind == kind
            failure[rows] = np.interp(wins[rows], grid, none_yet @ prior) @ SKILL_PRIOR
        return pd.Series(1 - failure, index=self._index(np.ones(world.n, dtype=bool)), name="success_probability")

    def _index(self, chosen: Bools) -> pd.Index:
        index: pd.Index = pd.Index(np.asarray(self.partner_ids)[chosen], name="partner_id")
        return index

    def _midnight(self, as_of: dt.datetime) -> int:
        calendar, moment = self.world.calendar, microseconds(as_of)
        if moment % DAY or not calendar.start <= moment <= calendar.end:
            first, last = (np.datetime64(day, "D") for day in (calendar.first, calendar.first + calendar.days))
            raise InputError(f"as_of must be a midnight UTC from {first} to {last}, got {as_of}")
        return moment

    def _activity(self, known_before: int | None) -> tuple[Ints, Ints]:
        """Return partner and moment of qualifying activity: actions, and deals won by all who take part."""
        actions, deals = self.engagement.actions, self.deals
        limit = known_before if known_before is not None else int(NEVER)
        seen = actions.where((actions.occurred < limit) & (actions.recorded < limit))
        won = (deals.result == WON) & (deals.closed < NEVER)
        won &= (deals.closed < limit) & (deals.closed_recorded < limit) & (deals.recorded < limit)
        partners, moments = [seen.partner], [seen.occurred]
        for takes_part in (deals.partner, deals.joint):
            rows = won & (takes_part >= 0)
            partners.append(takes_part[rows])
            moments.append(deals.closed[rows])
        return np.concatenate(partners), np.concatenate(moments)

    def _filter(self, today: int, moment: int) -> Floats:
        """Return P(state, level | records before `moment`) on the eve of `today`, shape (states, partners, levels)."""
        world, actions = self.world, self.engagement.actions
        seen = actions.where((actions.occurred < moment) & (actions.recorded < moment))
        evidence = _Evidence(seen, days=world.calendar.day_of(seen.occurred), n=world.n)
        start = START[:, None, None] * LEVEL_PRIOR[world.kind]
        belief = start.copy()
        season = world.calendar.season(0, max(today, 1))
        visible = visibility()
        for day in range(today):
            if day:
                belief = (_STAY.T @ belief.reshape(3, -1)).reshape(belief.shape)
            enters = world.first_day >= day
            belief[:, enters] = start[:, enters]
            age = today - day
            if age > _DELAYED_DAYS:
                belief *= np.exp(-_RATES * season[day])[:, None, :]
            else:
                belief *= np.exp(-_RATES[:, None, :] * season[day] * visible[world.offset, age][:, None])
            evidence.apply(belief, day)
            belief /= belief.sum(axis=(0, 2), keepdims=True)
        return belief

    def _backwards(self, today: int, horizon: int) -> tuple[Floats, Floats]:
        """Return P(silent throughout and not left) and P(left in the horizon) by state on the eve and level."""
        season = self.world.calendar.season(today, today + horizon)
        silent, leaves = np.ones_like(_RATES), np.zeros_like(_RATES)
        for day in reversed(range(horizon)):
            silent = _STAY @ (np.exp(-_RATES * season[day]) * silent)
            leaves = _LEAVE[:, None] + _STAY @ leaves
        return silent, leaves

    def _no_win(self, moment: int, today: int, horizon: int) -> Floats:
        """Return the chance that no deal now open is won in the horizon."""
        deals, n = self.deals, self.world.n
        owner = np.maximum(deals.partner, 0)
        known = (deals.recorded < moment) & (deals.partner >= 0)
        ended = known & (deals.closed_recorded < moment)
        wins = sigmoid(deals.trait_logit[:, None] + SKILL_GRID)  # (deals, skills)

        log_belief = np.tile(np.log(SKILL_PRIOR), (n, 1))
        told = np.where((deals.result == WON)[:, None], np.log(wins), np.log1p(-wins))
        np.add.at(log_belief, owner[ended], told[ended])
        belief = np.exp(log_belief - log_belief.max(axis=1, keepdims=True))
        belief /= belief.sum(axis=1, keepdims=True)

        live = known & ~ended
        age = today - self.world.calendar.day_of(deals.registered[live])
        ends = _ends_in_time(age, self.world.offset[owner[live]], horizon)
        not_won = np.log1p(-wins[live] * ends[:, None])
        log_none = np.zeros((n, len(SKILL_GRID)))
        np.add.at(log_none, owner[live], not_won)
        none: Floats = (belief * np.exp(log_none)).sum(axis=1)
        # a second partner counts the win as well; its share in the owner's skill is averaged out
        joint = deals.joint[live]
        expected = (belief[owner[live]] * wins[live]).sum(axis=1) * ends
        np.multiply.at(none, joint[joint >= 0], 1 - expected[joint >= 0])
        return none


class _Evidence:
    """Recorded actions gathered by (day, partner), ready to multiply into the filter's belief."""

    def __init__(self, actions: Actions, *, days: Ints, n: int) -> None:
        key = days * n + actions.partner
        order = np.argsort(key, kind="stable")
        key = key[order]
        begins = np.flatnonzero(np.diff(key, prepend=-1))
        self.partner = key[begins] % n
        self.days = key[begins] // n
        self.count = np.diff(np.append(begins, len(key)))
        mixes = np.log(MARKS)[:, actions.mark[order]]  # (states, actions)
        self.mixes = np.add.reduceat(mixes, begins, axis=1) if len(begins) else np.zeros((3, 0))

    def apply(self, belief: Floats, day: int) -> None:
        """Multiply by the likelihood of the day's actions, but for factors that all states share."""
        begin, end = np.searchsorted(self.days, [day, day + 1])
        rows = slice(begin, end)
        log = self.count[rows][:, None] * np.log(_RATES)[:, None, :] + self.mixes[:, rows][:, :, None]
        log -= log.max(axis=(0, 2), keepdims=True)
        belief[:, self.partner[rows]] *= np.exp(log)


def _ends_in_time(age: Ints, offset: Ints, horizon: int) -> Floats:
    """Return the chance that a deal ends within the horizon, if no end is on record at an age in days."""
    chances, visible = closing(), visibility()
    longest = int(age.max(initial=0)) + horizon + len(chances)
    density = np.zeros(longest)
    density[: len(chances)] = chances
    ended = np.append(0.0, np.cumsum(density))  # ended[k]: before day k
    lags = visible.shape[1]
    # on record at age a: ended k days after the registration, and seen a - k days later
    by_offset = np.stack(
        [
            np.convolve(density, np.append(row, np.ones(longest - lags)))[:longest]
            for row in visible[:, : min(lags, longest)]
        ]
    )
    unknown = 1 - by_offset[offset, age]
    share: Floats = (ended[age + horizon] - ended[age]) / unknown
    return share


def _no_success(wins: Floats, days: int) -> Floats:
    """Return the chance of no won deal within `days`, by chance of winning and level, from the day of joining."""
    closes = np.cumsum(closing())
    in_time = closes[np.minimum(np.arange(days), len(closes) - 1)]  # by days left
    deal_rate = _RATES * MARKS[:, DEAL_MARK, None]  # (states, levels)
    none = np.ones((len(wins), *_RATES.shape))
    for left_over in range(days):
        survives = np.exp(-wins[:, None, None] * deal_rate * in_time[left_over])
        none = survives * none
        if left_over < days - 1:
            # who leaves registers nothing more
            none = np.einsum("st,gtl->gsl", _STAY, none) + _LEAVE[:, None]
    overall: Floats = np.einsum("s,gsl->gl", START, none)
    return overall
