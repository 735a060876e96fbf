"""Statements that are put into words once, and then asked of the driver itself.

SQLAlchemy looks for the words of a statement at every call, and makes an object of every result: of the few short
statements of a turn that takes longer than the database does.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError


class Ready:
    """A statement that is asked often: of plain numbers, texts and bytes, which no driver needs to be told about.

    Parameters
    ----------
    statement : sqlalchemy.Executable
    """

    def __init__(self, statement: Any) -> None:
        self._statement = statement
        self._words: dict[tuple[str, ...], tuple[str, Mapping[str, Any], Sequence[str] | None]] = {}
        self._row: Any = None

    def all(self, connection: sa.Connection, values: Mapping[str, Any]) -> list[Any]:
        """Return the rows, each a named tuple; none of a statement that returns nothing.

        Raises
        ------
        DBAPIError
            As SQLAlchemy has it, if the database refuses.
        """
        words, own, names = self._worded(connection, values)
        given: Any = {**own, **values} if own else values
        given = given if names is None else [given[name] for name in names]
        driver: Any = connection.connection.driver_connection
        cursor = driver.cursor()
        try:
            cursor.execute(words, given)
            if cursor.description is None:
                return []
            rows = cursor.fetchall()
            if self._row is None:
                named: Any = namedtuple  # its columns are those of the statement, known only now
                self._row = named("Row", [column[0] for column in cursor.description])
        except connection.dialect.loaded_dbapi.Error as error:
            base = connection.dialect.loaded_dbapi.Error
            raise DBAPIError.instance(words, given, error, base, dialect=connection.dialect) from error
        finally:
            cursor.close()
        return list(map(self._row._make, rows))

    def one(self, connection: sa.Connection, values: Mapping[str, Any]) -> Any:
        """Return the row of a statement that returns one."""
        (row,) = self.all(connection, values)
        return row

    def number(self, connection: sa.Connection, values: Mapping[str, Any]) -> int:
        """Return the number that a statement returns."""
        ((number,),) = self.all(connection, values)
        return int(number)

    def _worded(
        self, connection: sa.Connection, values: Mapping[str, Any]
    ) -> tuple[str, Mapping[str, Any], Sequence[str] | None]:
        """Return the words for a database, the values that they bring, and the order of values that have no names."""
        key = (connection.dialect.name, *values)
        found = self._words.get(key)
        if found is None:
            compiled: Any = self._statement.compile(dialect=connection.dialect, column_keys=list(values))
            own = {name: value for name, value in compiled.params.items() if value is not None}
            found = self._words[key] = str(compiled), own, compiled.positiontup
        return found
