"""How long work reports: bars on a terminal, log lines elsewhere, nothing in Python unless asked for."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, TextIO, TypeVar

if TYPE_CHECKING:
    import rich.console
    import rich.progress

_T = TypeVar("_T")
_logger = logging.getLogger("partnerml")
_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Reports nothing; the base of the two that do.

    Use `Progress.silent()` as the default of a ``progress=None`` argument and `Progress.on(sys.stderr)` for a command.

    Examples
    --------
    >>> progress = Progress.silent()
    >>> with progress.stage("folds"):
    ...     [fold for fold in progress.track([1, 2, 3], "backtest")]
    [1, 2, 3]
    """

    @classmethod
    def silent(cls) -> Progress:
        """Return a progress that reports nothing."""
        return Progress()

    @classmethod
    def on(cls, stream: TextIO | None = None) -> Progress:
        """Return bars if the stream (default: standard error) is a terminal, else log lines of logger "partnerml"."""
        stream = sys.stderr if stream is None else stream
        return Bars(stream) if stream.isatty() else Lines()

    def track(self, items: Iterable[_T], description: str, total: int | None = None) -> Iterator[_T]:
        """Yield the items and report how many are done.

        Parameters
        ----------
        items : iterable
            What is worked on.
        description : str
            What is done, such as ``"backtest folds"``.
        total : int, optional
            How many there are, where ``len(items)`` does not tell.
        """
        yield from items

    def say(self, text: str) -> None:
        """Report one line."""

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Report that a stage runs, and how long it took."""
        yield


class Lines(Progress):
    """Reports by log lines: the start of everything, then at most one line in ten seconds."""

    def track(self, items: Iterable[_T], description: str, total: int | None = None) -> Iterator[_T]:
        """Yield the items; see `Progress.track`."""
        total = _length(items) if total is None else total
        of = "" if total is None else f" of {total:,}"
        last = time.monotonic()
        for done, item in enumerate(items):
            if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                _logger.info("%s: %s%s", description, f"{done:,}", of)
            yield item

    def say(self, text: str) -> None:
        """Log one line."""
        _logger.info("%s", text)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Log the start of a stage and its end; a stage that raises has no end."""
        started = time.monotonic()
        _logger.info("%s ...", name)
        yield
        _logger.info("%s: done in %.1f s", name, time.monotonic() - started)


class Bars(Progress):
    """Reports by bars that vanish when they are done, and one line for each stage.

    Parameters
    ----------
    stream : file
        The terminal to draw on.
    """

    def __init__(self, stream: TextIO) -> None:
        import rich.console
        import rich.progress

        self.console: rich.console.Console = rich.console.Console(file=stream)
        self._bars = rich.progress.Progress(
            rich.progress.SpinnerColumn(),
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(bar_width=32),
            rich.progress.TaskProgressColumn(),
            rich.progress.TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )
        self._open = 0

    def track(self, items: Iterable[_T], description: str, total: int | None = None) -> Iterator[_T]:
        """Yield the items; see `Progress.track`."""
        with self._bar(description, _length(items) if total is None else total) as bar:
            for item in items:
                yield item
                self._bars.advance(bar)

    def say(self, text: str) -> None:
        """Print one line above the bars."""
        self.console.print(text, markup=False, highlight=False)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show a stage while it runs, and a line when it has ended."""
        started = time.monotonic()
        with self._bar(name, None):
            yield
        self.say(f"{name}: {time.monotonic() - started:.1f} s")

    @contextlib.contextmanager
    def _bar(self, description: str, total: int | None) -> Iterator[rich.progress.TaskID]:
        if not self._open:
            self._bars.start()
        self._open += 1
        bar = self._bars.add_task(description, total=total)
        try:
            yield bar
        finally:
            self._bars.remove_task(bar)
            self._open -= 1
            if not self._open:
                self._bars.stop()


def _length(items: Iterable[object]) -> int | None:
    return len(items) if isinstance(items, Sized) else None
