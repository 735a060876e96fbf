"""The HTML summary: one self-contained file that needs no network, prints, and follows the reader's dark mode."""

from partnerml.report._build import Scored, build_report
from partnerml.report._content import call_first

__all__ = ["Scored", "build_report", "call_first"]
