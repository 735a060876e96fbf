"""The command line: a thin skin over the library.

Exit codes: 0 done; 2 the input is wrong (one message, no traceback); 1 our fault. Results go to standard output,
everything else to standard error. Heavy modules are imported by the command that needs them.
"""

from __future__ import annotations

from partnerml.cli._app import app
from partnerml.cli._commands import COMMANDS

for _command in COMMANDS:
    app.add_command(_command)


def main() -> None:
    """Run the command line; the entry point of the ``partnerml`` script."""
    app.main(prog_name="partnerml")


__all__ = ["app", "main"]
