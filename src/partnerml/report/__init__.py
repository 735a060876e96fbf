"""The HTML summary of scores and the card of a model: files that need no network, print, and follow the dark mode."""

from partnerml.report._build import Scored, build_report
from partnerml.report._card import card_files, card_folder, model_card, write_card
from partnerml.report._content import call_first

__all__ = ["Scored", "build_report", "call_first", "card_files", "card_folder", "model_card", "write_card"]
