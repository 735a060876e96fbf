"""The rules that a configuration asks, and the register of those that users add."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any

from partnerml.config._reading import nearest
from partnerml.errors import ConfigError
from partnerml.routing._engagement import RULES
from partnerml.routing._rule import Rule

if TYPE_CHECKING:
    from partnerml.config._routing import RoutingConfig, RuleConfig

__all__ = ["ENTRY_POINTS", "RULES", "Rule", "register_rule", "rules_of"]

ENTRY_POINTS = "partnerml.rules"
_ADDED: dict[str, Rule] = {}
# what the ledger holds to whatever is configured
_KEPT = {
    "capacity": "no partner is offered more than its limits allow; a partner without limits has none to keep",
    "had_before": "no lead is offered to the same partner twice",
}


def register_rule(rule: Rule, *, replace: bool = False) -> Rule:
    """Make a rule known, so that a configuration can name it.

    It is asked by every router whose configuration names it, in ``routing.rules`` or ``routing.order``, and by no
    other.

    Parameters
    ----------
    rule : Rule
    replace : bool
        Whether it may take the place of another one of the same name that was registered.

    Returns
    -------
    Rule
        The same.

    Raises
    ------
    ConfigError
        If it is no rule, or there is one of that name.
    """
    if not isinstance(rule, Rule):
        raise ConfigError(f"register_rule takes a Rule, got {type(rule).__name__}")
    if rule.name in RULES:
        raise ConfigError(f"rule {rule.name!r} is one of partnerml's own; give yours another name")
    if _ADDED.get(rule.name, rule) is not rule and not replace:
        raise ConfigError(f"rule {rule.name!r} is registered already; pass replace=True, or give it another name")
    _ADDED[rule.name] = rule
    return rule


def _added_rule(name: str) -> Rule | None:
    """Return a rule that was registered, or is an entry point of the group ``partnerml.rules``; None if neither.

    Raises
    ------
    ConfigError
        If the entry point cannot be loaded, or is no rule of that name.
    """
    if name in _ADDED:
        return _ADDED[name]
    for entry in metadata.entry_points(group=ENTRY_POINTS, name=name):
        return _loaded(entry)
    return None


def _added_names() -> tuple[str, ...]:
    """Return the names of all rules that were added."""
    return tuple(sorted({*_ADDED, *metadata.entry_points(group=ENTRY_POINTS).names}))


def registered(config: RoutingConfig) -> tuple[Rule, ...]:
    """Return the rules that a configuration names and `register_rule` has made known in this process."""
    return tuple(_ADDED[name] for name in dict.fromkeys((*config.order, *config.rules)) if name in _ADDED)


def rules_of(config: RoutingConfig) -> tuple[Rule, ...]:
    """Return the rules that a configuration asks, in its order; those that narrow come last.

    Raises
    ------
    ConfigError
        If it names a rule that there is not, or one twice, or switches off what the ledger holds to.
    """
    named = (*config.order, *config.rules)
    twice = next((name for name in config.order if config.order.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"routing.order names the rule {twice!r} more than once; name each rule once")
    off = next((name for name in _KEPT if name in config.rules and config.rules[name].enabled is False), None)
    if off is not None:
        raise ConfigError(
            f"routing.rules.{off}: it cannot be switched off: {_KEPT[off]}. Leave it out of routing.rules"
        )
    known = {name: _named(name, "order" if name in config.order else "rules") for name in dict.fromkeys(named)}
    # what is not named follows, in the order of RULES
    found = {name: known[name] for name in config.order} | {**RULES, **known}
    asked = [rule for name, rule in found.items() if _is_asked(rule, config.rules.get(name))]
    return tuple(sorted(asked, key=lambda rule: rule.narrows))


def _is_asked(rule: Rule, config: RuleConfig | None) -> bool:
    return rule.enabled if config is None or config.enabled is None else config.enabled


def _named(name: str, key: str) -> Rule:
    if name in RULES:
        return RULES[name]
    found = _added_rule(name)
    if found is None:
        known = (*RULES, *_added_names())
        raise ConfigError(
            f"routing.{key}: there is no rule {name!r}{nearest(name, known)} (known: {', '.join(known)}); make "
            f"your own known by register_rule or an entry point of {ENTRY_POINTS}"
        )
    among = None if found.among is None else _guarded(name, found.among)
    return dataclasses.replace(
        found,
        passes=_guarded(name, found.passes),
        failed=_guarded(name, found.failed),
        own=_guarded(name, found.own),
        among=among,
    )


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Say whose rule it was that failed: the traceback would point at partnerml."""

    @functools.wraps(function)
    def guarded(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise ConfigError(f"rule {name!r} failed: {type(error).__name__}: {error}") from error

    return guarded


def _loaded(entry: metadata.EntryPoint) -> Rule:
    told = f"rule {entry.name!r}: the entry point {entry.value} of {ENTRY_POINTS}"
    try:
        found = entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{told} cannot be loaded: {error}") from error
    if not isinstance(found, Rule) or found.name != entry.name:
        called = f"the rule {found.name!r}" if isinstance(found, Rule) else type(found).__name__
        raise ConfigError(f"{told} must be a Rule of that name, and is {called}")
    return found
