"""What every command shares: its options, where it reports, and how it ends."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
import logging
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from partnerml import __version__
from partnerml.errors import ConfigError, InputError, InternalError
from partnerml.moments import moment
from partnerml.outputs import canonical_json
from partnerml.progress import Bars, Progress

if TYPE_CHECKING:
    from rich.console import Console

    from partnerml.config import Config
    from partnerml.ecosystem import Ecosystem

DONE, FAULT, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130
DEFAULT_CONFIG = "partnerml.yaml"

_DEBUG = "PARTNERML_DEBUG"
_TABLE_WIDTH = 120


@dataclasses.dataclass(frozen=True)
class Result:
    """What a command found.

    Attributes
    ----------
    document : mapping
        What ``--json`` prints.
    show : callable
        Prints the same for people.
    failure : InputError or None
        Why the command ends with 2 although it has a result (`validate`).
    """

    document: Mapping[str, Any]
    show: Callable[[Console], None]
    failure: InputError | None = None


@dataclasses.dataclass(frozen=True)
class Session:
    """The options that every command has."""

    command: str
    quiet: bool
    json: bool
    progress: Progress
    config: Path = Path(DEFAULT_CONFIG)
    overrides: tuple[str, ...] = ()

    def load(self) -> Config:
        """Read the configuration.

        Raises
        ------
        ConfigError
            If there is none, or it is wrong.
        """
        from partnerml.config import Config

        if not self.config.is_file():
            kind = "is a folder, not a file" if self.config.is_dir() else "does not exist"
            raise ConfigError(
                f"the configuration {self.config} {kind}. Name one with -c FILE, or make one with: "
                "partnerml init DIR --sample synthetic"
            )
        return Config.load(self.config, self.overrides)

    @contextlib.contextmanager
    def ecosystem(self, *, now: dt.datetime | None = None) -> Iterator[Ecosystem]:
        """Open the tables of the configuration."""
        self.load()  # its own message where there is no file
        from partnerml.ecosystem import Ecosystem

        with self.progress.stage("open the tables"):
            eco = Ecosystem.open(self.config, overrides=self.overrides, now=now)
        with eco:
            yield eco


class Moment(click.ParamType[dt.datetime]):
    """A date (00:00 UTC of it) or a timestamp."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dt.datetime:
        """Return the moment as zoned UTC."""
        name = param.opts[0] if param is not None else "date"
        try:
            return moment(value, name=name)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


MOMENT = Moment()

_COMMON = (
    click.option("--quiet", is_flag=True, help="Print nothing but warnings and errors."),
    click.option("--json", "json_", is_flag=True, help="Print the result (or the error) as one JSON document."),
    click.option("--debug", is_flag=True, help=f"Show the traceback of an error ({_DEBUG}=1 does the same)."),
)
_CONFIGURED = (
    click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        default=DEFAULT_CONFIG,
        show_default=True,
        help="The configuration.",
    ),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a key of the configuration, such as data.source=exports/; repeatable.",
    ),
)


def command(name: str, *, configured: bool = True) -> Callable[[Callable[..., Result]], click.Command]:
    """Make a command of a function that takes a `Session` and its own options and returns a `Result`."""

    def made(function: Callable[..., Result]) -> click.Command:
        @functools.wraps(function)
        def run(
            quiet: bool,
            json_: bool,
            debug: bool,
            config: Path = Path(DEFAULT_CONFIG),
            overrides: Sequence[str] = (),
            **options: Any,
        ) -> int:
            progress = Progress.silent() if quiet else Progress.on(sys.stderr)
            session = Session(name, quiet, json_, progress, config, tuple(overrides))
            with _logging(progress, quiet=quiet):
                result = function(session, **options)
                try:
                    code = _finish(session, result)
                    sys.stdout.flush()
                except BrokenPipeError:  # `partnerml ... | head`: who reads has had enough
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                    code = DONE if result.failure is None else WRONG_INPUT
                return code

        decorated: Any = run
        # click lists what was added last first: a command's own options come before those that all have
        own = decorated.__dict__.pop("__click_params__", [])
        for option in reversed((*(_CONFIGURED if configured else ()), *_COMMON)):
            decorated = option(decorated)
        decorated.__click_params__.extend(own)
        return click.command(name, short_help=_first_sentence(function.__doc__))(decorated)

    return made


def _first_sentence(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]


def _finish(session: Session, result: Result) -> int:
    if session.json:
        document = dict(result.document)
        if result.failure is not None:
            document["error"] = _error_document(result.failure)
        click.echo(canonical_json(_plain(document)), nl=False)
    elif not session.quiet:
        result.show(console())
    if result.failure is None:
        return DONE
    click.echo(f"error: {result.failure}", err=True)
    return WRONG_INPUT


def console() -> Console:
    """Return a console on standard output: as wide as the terminal, 120 columns in a file."""
    from rich.console import Console

    plain = not sys.stdout.isatty()
    return Console(file=sys.stdout, width=_TABLE_WIDTH if plain else None, highlight=False, soft_wrap=False)


def _plain(value: Any) -> Any:
    """Return JSON values: moments as ISO 8601, paths as text, not-a-number as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


class App(click.Group):
    """The group of commands: the one place where errors become messages and exit codes."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and exit with the code."""
        arguments = list(sys.argv[1:] if args is None else args)
        try:
            code = super().main(arguments, prog_name, complete_var, standalone_mode=False, **extra)
        except (Exception, KeyboardInterrupt) as error:
            code = _report(error, arguments)
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else DONE)


def _report(error: BaseException, arguments: Sequence[str]) -> int:
    """Tell an error on standard error (and as JSON where that was asked for), and return the exit code."""
    if isinstance(error, KeyboardInterrupt | click.Abort):
        click.echo("interrupted; outputs are whole or absent, so the same command can simply be run again", err=True)
        return INTERRUPTED
    # read from the arguments, because an error of the options comes before they are parsed
    if "--json" in arguments:
        click.echo(canonical_json({"error": _error_document(error)}), nl=False)
    if "--debug" in arguments or os.environ.get(_DEBUG, "0") not in ("", "0"):
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    if isinstance(error, click.ClickException):
        error.show(sys.stderr)
    else:
        click.echo(_words(error), err=True)
    return _code(error)


def _code(error: BaseException) -> int:
    return WRONG_INPUT if isinstance(error, InputError | click.ClickException) else FAULT


def _words(error: BaseException) -> str:
    if isinstance(error, InputError):
        return f"error: {error}"
    if isinstance(error, OSError):
        return f"error: the system refused: {error}. Check the disk's space and the rights of the folder."
    kind = "" if isinstance(error, InternalError) else f"{type(error).__name__}: "
    versions = f"partnerml {__version__}, Python {sys.version.split()[0]}"
    return (
        f"partnerml failed, and that is our fault: {kind}{error}\n"
        f"Run the same command with --debug (or {_DEBUG}=1) for the traceback, and report it with: {versions}"
    )


def _error_document(error: BaseException) -> dict[str, Any]:
    message = error.format_message() if isinstance(error, click.ClickException) else str(error)
    document: dict[str, Any] = {"type": type(error).__name__, "message": message, "exit_code": _code(error)}
    violations = getattr(error, "violations", ())
    if violations:
        document["violations"] = [_plain(dataclasses.asdict(violation)) for violation in violations]
    return document


@contextlib.contextmanager
def _logging(progress: Progress, *, quiet: bool) -> Iterator[None]:
    """Send what partnerml logs to standard error while a command runs."""
    logger = logging.getLogger("partnerml")
    level, propagate = logger.level, logger.propagate
    handler = _OnTerminal(progress) if isinstance(progress, Bars) else _on_stream(plain=quiet and sys.stderr.isatty())
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)  # which forgets what it said of levels meanwhile, as an assignment would not
        logger.propagate = propagate


def _on_stream(*, plain: bool) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(plain=plain))
    return handler


class _Lines(logging.Formatter):
    """A line as a log file wants it, with the moment and the level; plain on a terminal."""

    def __init__(self, *, plain: bool) -> None:
        super().__init__()
        self.plain = plain

    def format(self, record: logging.LogRecord) -> str:
        if self.plain:
            return _line(record)
        when = dt.datetime.fromtimestamp(record.created, dt.UTC)
        return f"{when:%Y-%m-%dT%H:%M:%SZ} {record.levelname} {record.getMessage()}"


class _OnTerminal(logging.Handler):
    """Prints above the bars."""

    def __init__(self, progress: Bars) -> None:
        super().__init__()
        self.progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self.progress.say(_line(record))


def _line(record: logging.LogRecord) -> str:
    prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
    return prefix + record.getMessage()


@click.group(
    cls=App,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: partnerml demo, or partnerml init DIR --sample synthetic. Every command takes --help.",
)
@click.version_option(__version__, prog_name="partnerml")
def app() -> None:
    """Churn risk, partner fit, propensity, close probability and lead routing, with reasons, from raw tables.

    \b
    A first run on your own data:
      partnerml init crm/                 writes crm/partnerml.yaml; name your tables in it
      partnerml validate -c crm/partnerml.yaml
      partnerml nightly  -c crm/partnerml.yaml --as-of 2026-06-01
    """  # noqa: D301 (click reads \b as: leave the lines as they are)
