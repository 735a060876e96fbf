"""Every error that partnerml raises on purpose.

::

    PartnermlError
    ├── InputError               the user's input is wrong; the command line exits with 2
    │   ├── ConfigError          a configuration file, an override or an argument
    │   ├── SourceError          a file, folder or connection that cannot be read
    │   ├── MappingError         a column mapping, an expression or a SQL text
    │   ├── DataError            rows or columns that break a rule; carries the violations
    │   ├── NotEnoughDataError   too few rows, labels or months to train or to evaluate
    │   ├── ModelError           a saved model that is damaged, or does not fit the data
    │   │   └── NoChampionError  a task for which no model has been promoted
    │   ├── BusyError            another run holds the output folder
    │   └── MissingExtraError    an optional dependency; names the command that installs it
    └── InternalError            our fault; the command line exits with 1

A message says which file, table, column or parameter, what is allowed, what came, and what to do.
"""

from __future__ import annotations

import importlib
from types import ModuleType


class PartnermlError(Exception):
    """Base of every error that partnerml raises on purpose."""


class InputError(PartnermlError):
    """The user's input is wrong."""


class ConfigError(InputError):
    """A configuration file, an override or an argument is wrong."""


class SourceError(InputError):
    """A file, folder or connection cannot be read."""


class MappingError(InputError):
    """A column mapping, an expression or a SQL text is wrong or not allowed."""


class DataError(InputError):
    """Rows or columns break a rule of the schema.

    Parameters
    ----------
    message : str
        What is wrong, where, how many rows, the first of them, and what to do.
    violations : tuple
        The violations behind the message (`partnerml.validation.Violation`), worst first.
    """

    def __init__(self, message: str, violations: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.violations = violations


class NotEnoughDataError(InputError):
    """There are too few rows, labels or months to train or to evaluate."""


class ModelError(InputError):
    """A saved model is damaged, or does not fit the data that it is given."""


class NoChampionError(ModelError):
    """No model has been promoted for a task."""


class BusyError(InputError):
    """Another run holds the output folder."""


class MissingExtraError(InputError):
    """An optional dependency is not installed."""


class InternalError(PartnermlError):
    """Something that partnerml guarantees does not hold: our fault."""


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional dependency, or say how to install it.

    Parameters
    ----------
    module : str
        The module to import, such as ``"mlflow"``.
    extra : str
        The extra of partnerml that brings it.
    purpose : str
        What it is needed for, in words that fit after "needed for".

    Raises
    ------
    MissingExtraError
        If it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f'{module} is needed for {purpose} and is not installed; install it with: pip install "partnerml[{extra}]"'
        ) from error
