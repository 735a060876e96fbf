"""A partner ecosystem with known truth, for tests, examples and the demo.

`simulate` draws partners whose engagement follows a hidden Markov chain, everything that they do, and what the
vendor's records show of it: late rows, open deals, changed traits. `Truth` holds the latent side, and the
probabilities that nobody who sees the records alone could improve upon.
"""

from __future__ import annotations

from partnerml.synthetic._simulate import SyntheticEcosystem, simulate
from partnerml.synthetic._truth import Truth

__all__ = ["SyntheticEcosystem", "Truth", "simulate"]
