"""Rules that are given to a simulation, and time to answer: what is none is refused by name."""

import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml.config import Config, RoutingConfig
from partnerml.errors import ConfigError
from partnerml.routing import Router


@pytest.fixture
def router():
    with Router.open(snapshot(2, p={"p0": 0.2, "p1": 0.1})) as opened:
        for number in range(8):
            opened.route({"lead_id": f"l{number}", "created_at": AS_OF.isoformat(), "amount": 5}, now=AS_OF)
        yield opened


def test_rules_may_be_a_mapping_as_in_yaml(router):
    policy = {"kind": "softmax", "temperature": 10}
    given = router.simulate(AS_OF, config={"policy": policy, "offers": {"answer_within": "2h"}})
    same = router.simulate(AS_OF, config=RoutingConfig.of({"policy": policy}))
    assert given.would_partner_id.tolist() == same.would_partner_id.tolist()
    assert set(given.would_partner_id) == {"p0", "p1"}
    assert set(router.simulate(AS_OF).would_partner_id) == {"p0"}  # by rules that are its own it is greedy
    with pytest.raises(ConfigError, match="there is no rule 'tear'; did you mean tier"):
        router.simulate(AS_OF, config={"order": ["tear"]})


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"polcy": {}}, "routing: polcy: .*did you mean policy"),
        ({"policy": {"kind": "best"}}, "routing: policy.kind: .*got 'best'"),
        ({"offers": {"answer_within": "0h"}}, "routing: offers.answer_within: a partner needs some time to answer"),
        (5, "is a RoutingConfig or a mapping; got int"),
        ("greedy", "is a RoutingConfig or a mapping; got str"),
    ],
)
def test_what_is_no_section_of_rules_is_told(router, config, told):
    with pytest.raises(ConfigError, match=told):
        router.simulate(AS_OF, config=config)


def test_a_partner_has_some_time_to_answer():
    with pytest.raises(ConfigError, match=r"routing.offers.answer_within: a partner needs some time to answer: give"):
        Config.from_dict({"routing": {"offers": {"answer_within": "0h"}}})
    assert Config.from_dict({"routing": {"offers": {"answer_within": "1m"}}}).routing.offers.answer_within
