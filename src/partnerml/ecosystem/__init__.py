"""Sources, mapping and validation: the canonical tables of an ecosystem."""

from partnerml.ecosystem._ecosystem import Ecosystem
from partnerml.ecosystem._report import ValidationReport, Violation

__all__ = ["Ecosystem", "ValidationReport", "Violation"]
