"""Processes that route leads on one ledger and are killed at random moments, and what must hold afterwards.

Each process works through its part of the calls, and writes a line to a file of its own once a call has been answered:
what is there was acknowledged. One that is killed is started again and goes on with the call that was not answered,
like a client that asks again. They decide by the router itself, or by a stand-in for it (any partner with room), which
is quicker and leaves the ledger alone to be looked at.
"""

import contextlib
import dataclasses
import datetime as dt
import functools
import json
import multiprocessing
import random
import time
from pathlib import Path

import numpy as np
from tests.routing.made_up import snapshot
from tests.routing.made_up_ledger import NOW, answer, capacity, route

from partnerml.errors import InputError
from partnerml.routing import Router
from partnerml.routing._ledger import Ledger
from partnerml.routing._matches import Keys

_NAME = "tests.routing.ledger_storm"
# from the first call to the last the day and the week turn
_SPAN = dt.timedelta(days=4)
_ZONES = ("UTC", "Asia/Kolkata", "America/New_York")


@dataclasses.dataclass(frozen=True)
class Storm:
    """How many leads, processes and kills; a third of the leads comes twice."""

    url: str
    folder: Path
    leads: int
    partners: int
    processes: int
    kills: int
    seed: int = 0
    routed: bool = False

    @functools.cached_property
    def limits(self):
        """Of partners, by day, by week, and of open leads: such that they are reached."""
        rng = random.Random(self.seed)
        each = max(2, self.leads // self.partners)
        return [
            (rng.randint(1, each), rng.randint(1, 2 * each), rng.choice([None, each])) for _ in range(self.partners)
        ]

    @functools.cached_property
    def world(self):
        """A snapshot of these partners: what each is worth depends on the lead, and chance has a say."""
        names = ("capacity_per_day", "capacity_per_week", "max_open_leads")
        partners = [
            {**dict(zip(names, limits, strict=True)), "partner_id": f"P{i:05}", "time_zone": _ZONES[i % 3]}
            for i, limits in enumerate(self.limits)
        ]
        config = {"max_snapshot_age": "60d", "policy": {"kind": "softmax"}, "offers": {"answer_within": "8h"}}
        return snapshot(partners, p=_chances, config=config, as_of=NOW - dt.timedelta(hours=12))

    @functools.cached_property
    def room(self):
        """The capacity of partners of three zones."""
        if self.routed:
            return Router.open(self.world)._in_use.opened.way.capacity
        return capacity(*self.limits, zones=_ZONES)

    @contextlib.contextmanager
    def opened(self):
        """Yield what takes a lead, a moment and a source of chance, and does with the lead what people do."""
        if not self.routed:
            with Ledger.open(self.url) as ledger:
                yield lambda lead, now, rng: steps(ledger, lead, self.room, now, rng)
        else:
            with Router.open(self.world, ledger=self.url) as router:
                yield lambda lead, now, rng: routed_steps(router, lead, now, rng)

    def calls(self, process):
        """The calls of one process: lead and moment; a lead that comes twice may do so at another process."""
        rng = random.Random(self.seed)
        numbers = [*range(self.leads), *rng.sample(range(self.leads), self.leads // 3)]
        rng.shuffle(numbers)
        return [(f"L{lead}", NOW + i * _SPAN / len(numbers)) for i, lead in enumerate(numbers)][
            process :: self.processes
        ]

    def log(self, process):
        return self.folder / f"acknowledged-{process}.jsonl"

    def acknowledged(self):
        """What was answered, in the order of each process."""
        lines = [line for i in range(self.processes) for line in self.log(i).read_text().splitlines()]
        return [json.loads(line) for line in lines]


def work(storm, process):
    """Work through the calls of one process, from where it was killed."""
    calls = storm.calls(process)
    with storm.opened() as does, storm.log(process).open("a+", buffering=1) as log:
        log.seek(0)
        done = sum(json.loads(line)["what"] == "done" for line in log)
        for i, (lead, now) in enumerate(calls[done:], start=done):
            rng = random.Random(f"{storm.seed}-{process}-{i}")
            for line in does(lead, now, rng):
                log.write(json.dumps(line) + "\n")
            log.write(json.dumps({"what": "done"}) + "\n")


def steps(ledger, lead, room, now, rng):
    """Route a lead, and do with it what people do; yield what was answered."""
    keys = Keys(account_id=f"A{rng.randrange(10**6)}", name=f"company {rng.randrange(10**6)}")
    text = route(ledger, lead, room, now, choose=rng.choice, keys=keys)
    yield told("routed", text)
    decided, step = json.loads(text), rng.random()
    if decided["partner_id"] is None or step < 0.2:
        return
    offer = decided["offer_id"]
    try:
        if step < 0.5:
            yield told("declined", answer(ledger, offer, "declined", room, now), offer)
        elif step < 0.9:
            yield told("accepted", answer(ledger, offer, "accepted", room, now), offer)
            if step > 0.7:
                with ledger.turn(moment=now) as turn:
                    turn.close(lead, "won", closed_at=now)
                yield {"what": "won", "lead": lead}
        else:
            with ledger.turn(moment=now) as turn:
                ended = turn.withdraw(offer)
            # one that nobody answered in time has expired
            yield {"what": ended.status, "offer": offer}
    except InputError:
        # the same lead came through another process, which was faster
        return


def _chances(situation, rows):
    return ((rows * 7919 + int(situation.lead.lead_id[1:]) * 31) % 97) / 100.0


def routed_steps(router, lead, now, rng):
    """Do the same by the router itself; now and then let all offers expire that are overdue."""
    number = int(lead[1:])
    name = f"{random.Random(number).getrandbits(64):x}"
    values = {"lead_id": lead, "created_at": NOW, "account_id": f"A{number}", "account_name": name}
    decided, step = router.route(values, now=now), rng.random()
    yield told("routed", decided.to_json())
    if step < 0.05:
        for moved in router.expire(now=now):
            yield told("moved", moved.to_json())
    if decided.partner_id is None or step < 0.2:
        return
    offer = decided.offer_id
    try:
        if step < 0.9:
            answered = "declined" if step < 0.5 else "accepted"
            yield told(answered, router.respond(offer, answered, now=now).to_json(), offer)
            if step > 0.7:
                router.outcome(lead, "won", now=now)
                yield {"what": "won", "lead": lead}
        else:
            following = router.withdraw(offer, now=now)
            yield told("moved", following.to_json())
            # one that nobody answered in time has expired
            yield {"what": router.ledger.offer(offer).status, "offer": offer}
    except InputError:
        # the same lead came through another process, which was faster, or the deadline had passed
        return


def told(what, text, offer=None):
    return {"what": what, "decision": json.loads(text)["decision_id"], "text": text, "offer": offer}


def blow(storm):
    """Run all processes and kill them; return the seconds that it took, and how many were killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_NAME])
    rng = random.Random(storm.seed)
    Ledger.open(storm.url).close()
    start = time.perf_counter()
    running = {i: _started(context, storm, i) for i in range(storm.processes)}
    size = dict.fromkeys(running, 0)
    kills = 0
    while running:
        time.sleep(rng.uniform(0.0, 0.1))
        for i, process in list(running.items()):
            if not process.is_alive():
                if process.exitcode:
                    raise AssertionError(f"process {i} failed with {process.exitcode}")
                del running[i]
        i = rng.choice(list(running) or [None])
        # one that has not got anything done since it was started would be killed for ever
        if i is None or kills == storm.kills or not _grown(storm, i, size):
            continue
        running[i].kill()
        running[i].join()
        kills += 1
        running[i] = _started(context, storm, i)
    return time.perf_counter() - start, kills


def _started(context, storm, process):
    started = context.Process(target=work, args=(storm, process))
    started.start()
    return started


def _grown(storm, i, size):
    now = storm.log(i).stat().st_size if storm.log(i).exists() else 0
    grown, size[i] = now > size[i], now
    return grown


def check(storm):
    """Assert what must hold, and return some figures of what happened."""
    with Ledger.open(storm.url) as ledger:
        assert ledger.audit() == []
        with ledger.turn(moment=NOW + _SPAN) as turn:
            free = storm.room.free(turn.load(storm.room), np.arange(storm.partners))
            full = int((free == 0).sum())
        decisions, offers = ledger.export("decisions"), {offer.offer_id: offer for offer in ledger.offers()}
        won = {offer.lead_id for offer in offers.values() if offer.outcome == "won"}
        lines = storm.acknowledged()
        for line in lines:
            if "decision" in line:
                assert ledger.text(line["decision"]) == line["text"]
        for line in lines:
            if line["what"] in ("declined", "withdrawn", "expired"):
                assert offers[line["offer"]].status == line["what"]
            elif line["what"] == "accepted":
                assert offers[line["offer"]].status in ("accepted", "withdrawn")
            elif line["what"] == "won":
                assert line["lead"] in won
    first = decisions[decisions.number == 0]
    assert sorted(first.lead_id) == sorted(f"L{i}" for i in range(storm.leads))
    for name, partners in _partners(offers).items():
        assert len(partners) == len(set(partners)), f"lead {name} came twice to a partner: {partners}"
    assert sum(line["what"] == "done" for line in lines) == storm.leads + storm.leads // 3
    if storm.routed:
        _replayed(storm, decisions)
    return {
        "calls": sum("decision" in line for line in lines),
        "offers": len(offers),
        "fallbacks": int((decisions.status == "fallback").sum()),
        "status": {name: sum(offer.status == name for offer in offers.values()) for name in ("offered", "accepted")},
        "full": full,
    }


def _replayed(storm, decisions, *, most=40):
    """Make some decisions again, byte for byte."""
    with Router.open(storm.world, ledger=storm.url) as router:
        for decision_id in decisions["decision_id"].sample(min(most, len(decisions)), random_state=storm.seed):
            assert router.replay(decision_id) == router.decision(decision_id)


def _partners(offers):
    found = {}
    for offer in offers.values():
        found.setdefault(offer.lead_id, []).append(offer.partner_id)
    return found
