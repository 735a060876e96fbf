"""What partners do: a hidden chain of engagement by day, and the actions that it makes likely."""

from __future__ import annotations

import dataclasses

import numpy as np

from partnerml.synthetic._world import (
    ABSENT,
    DAY,
    LEFT,
    LEVEL_RATES,
    MARKS,
    NEVER,
    OFFSETS,
    OTHER_RATES,
    STATE_ACTIVITY,
    TRANSITIONS,
    Bools,
    Floats,
    Ints,
    World,
    delays,
    draw_rows,
    generator,
    times_of_day,
)

CHUNK = 4096  # partners simulated at a time; part of the definition of a world, since streams are drawn by chunk


@dataclasses.dataclass(frozen=True)
class Actions:
    """Actions in the order of (moment, partner); moments in microseconds since 1970.

    `mark` is an index into EVENT_TYPES, or DEAL_MARK for a deal that is registered; for actions of the vendor
    an index into OTHER_TYPES.
    """

    partner: Ints
    occurred: Ints
    recorded: Ints
    mark: Ints

    def where(self, chosen: Bools) -> Actions:
        """Return the chosen rows."""
        return Actions(self.partner[chosen], self.occurred[chosen], self.recorded[chosen], self.mark[chosen])


@dataclasses.dataclass(frozen=True)
class Engagement:
    """The latent path of every partner, and what it made them do.

    Attributes
    ----------
    path_partner, path_day, path_state : array of int
        Each change of state: from that day (counted from the start) on the partner is in that state.
    left : array of int
        Moment at which the partner leaves, or NEVER.
    actions : Actions
        Qualifying activity, whenever recorded: events by the partner and deals that it registers.
    others : Actions
        What the vendor and its systems did.
    """

    path_partner: Ints
    path_day: Ints
    path_state: Ints
    left: Ints
    actions: Actions
    others: Actions


def simulate_engagement(world: World, *, seed: int) -> Engagement:
    """Walk every partner through the days; memory is bounded by chunks of partners."""
    chunks = []
    for number, begin in enumerate(range(0, world.n, CHUNK)):
        members = np.arange(begin, min(begin + CHUNK, world.n))
        chunks.append(_simulate_chunk(world, members, seed=seed, number=number))
    columns = [np.concatenate(column) for column in zip(*chunks, strict=True)]
    return Engagement(
        columns[0],
        columns[1],
        columns[2],
        columns[3],
        actions=_sorted(Actions(*columns[4:8])),
        others=_sorted(Actions(*columns[8:12])),
    )


def _sorted(actions: Actions) -> Actions:
    order = np.lexsort((actions.mark, actions.partner, actions.occurred))
    return Actions(actions.partner[order], actions.occurred[order], actions.recorded[order], actions.mark[order])


def _simulate_chunk(world: World, members: Ints, *, seed: int, number: int) -> tuple[Ints, ...]:
    calendar = world.calendar
    states = _walk(world, members, rng=generator(seed, "states", number))
    previous = np.vstack([np.full(len(members), ABSENT, dtype=np.int8), states[:-1]])
    day, member = np.nonzero(states != previous)

    rng = generator(seed, "left", number)
    leaving = states[day, member] == LEFT
    left = np.full(len(members), NEVER)
    left[member[leaving]] = (calendar.first + day[leaving]) * DAY
    left = np.where(left < NEVER, left + times_of_day(rng, OFFSETS[world.offset[members]]), NEVER)

    season = calendar.season(0, calendar.days)
    # LEFT and ABSENT partners do nothing
    activity = np.array([*STATE_ACTIVITY, 0.0, 0.0])
    rates: Floats = season[:, None] * activity[states] * LEVEL_RATES[world.level[members]]
    rng = generator(seed, "actions", number)
    actions = _act(world, members, rates=rates, rng=rng)
    latent = states[calendar.day_of(actions.occurred), actions.partner - members[0]]
    mark = draw_rows(rng, MARKS[latent])

    others = _simulate_others(world, members, states=states, rng=generator(seed, "others", number))
    return (
        members[member],
        day,
        states[day, member].astype(np.int64),
        left,
        actions.partner,
        actions.occurred,
        actions.recorded,
        mark,
        others.partner,
        others.occurred,
        others.recorded,
        others.mark,
    )


def _walk(world: World, members: Ints, *, rng: np.random.Generator) -> np.ndarray[tuple[int, int], np.dtype[np.int8]]:
    """Return the state of each member on each day, shape (days, members)."""
    edges = np.ones((5, 4))
    edges[:3] = np.cumsum(TRANSITIONS, axis=1)
    edges[LEFT, :3] = 0.0
    states = np.empty((world.calendar.days, len(members)), dtype=np.int8)
    current = np.full(len(members), ABSENT)
    first_day = world.first_day[members]
    start = world.start_state[members]
    for day in range(world.calendar.days):
        # three edges are enough: the fourth is 1
        moved = (rng.random(len(members))[:, None] >= edges[current, :3]).sum(axis=1)
        current = np.where(first_day == day, start, np.where(current == ABSENT, ABSENT, moved))
        states[day] = current
    return states


def _act(world: World, members: Ints, *, rates: Floats, rng: np.random.Generator) -> Actions:
    """Draw actions at `rates` a day, shape (days, members); marks are left at 0."""
    counts = rng.poisson(rates)
    day, member = np.nonzero(counts)
    repeats = counts[day, member]
    day, partner = np.repeat(day, repeats), members[np.repeat(member, repeats)]
    occurred = (world.calendar.first + day) * DAY + times_of_day(rng, OFFSETS[world.offset[partner]])
    recorded = occurred + delays(rng, len(occurred))
    return Actions(partner, occurred, recorded, np.zeros(len(occurred), dtype=np.int64))


def _simulate_others(
    world: World, members: Ints, *, states: np.ndarray[tuple[int, int], np.dtype[np.int8]], rng: np.random.Generator
) -> Actions:
    present = states < LEFT
    parts = []
    for mark, rate in enumerate(OTHER_RATES):
        rates: Floats = rate * present.astype(np.float64)
        part = _act(world, members, rates=rates, rng=rng)
        parts.append((part.partner, part.occurred, part.recorded, np.full(len(part.partner), mark)))
    return Actions(*(np.concatenate(column) for column in zip(*parts, strict=True)))
