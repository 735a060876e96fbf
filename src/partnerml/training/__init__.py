"""From a task and an ecosystem to a model that has been judged out of time, and on to the registry."""

from __future__ import annotations

from partnerml.training._challenge import challenge
from partnerml.training._columns import check_traits, select_columns
from partnerml.training._documents import documented
from partnerml.training._judging import judge
from partnerml.training._rebuild import rebuild
from partnerml.training._recipe import Recipe, Simplest, Trained, recipe_of
from partnerml.training._run import Outcome, run
from partnerml.training._together import run_all
from partnerml.training._train import train, trained

__all__ = [
    "Outcome",
    "Recipe",
    "Simplest",
    "Trained",
    "challenge",
    "check_traits",
    "documented",
    "judge",
    "rebuild",
    "recipe_of",
    "run",
    "run_all",
    "select_columns",
    "train",
    "trained",
]
