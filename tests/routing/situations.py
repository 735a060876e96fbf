"""Situations of made-up snapshots: a lead as a dict, and what partners hold by then."""

import numpy as np
from tests.routing.made_up import AS_OF, snapshot

from partnerml.config import RoutingConfig
from partnerml.routing._lead import Lead
from partnerml.routing._situation import Load, Situation


def situation(lead=None, partners=3, *, moment=AS_OF, load=None, had=(), matches=(), config=None, known=None, **tables):
    """Return a situation; `load` is (today, this week, open) by partner, `known` a snapshot that is there already."""
    found = known or snapshot(partners, **tables)
    counts = np.zeros((3, len(found)), dtype=np.int64)
    for partner, given in (load or {}).items():
        counts[:, found.partners.index[partner]] = given
    settings = config if isinstance(config, RoutingConfig) else RoutingConfig.model_validate(config or {})
    return Situation(
        Lead.of({"lead_id": "L", **(lead or {})}),
        moment,
        found,
        Load(*counts),
        frozenset(had),
        tuple(matches),
        settings,
    )


def names(found, rows):
    """Return the ids of the partners of some rows."""
    return [str(found.snapshot.partners.partner_id[row]) for row in rows]
