"""The fence around a user's SQL: what a mapping may say, held against two parsers.

sqlglot parses the text first: one expression, or one SELECT, and nothing else. What the text *means* is then read
off DuckDB's own parse tree (`json_serialize_sql`), because that is the parser that will run it: only named raw
tables, only the functions listed here, no table functions, no parameters, no qualified names. Two parsers would have
to be fooled in the same way, and behind them stands a DuckDB without access to files, settings or extensions.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import sqlglot
import sqlglot.errors
from sqlglot import exp

from partnerml.config import nearest
from partnerml.ecosystem._functions import EXTRA_FUNCTIONS
from partnerml.errors import MappingError

_SCALAR = """
abs acos asin atan atan2 cbrt ceil ceiling cos cot degrees even exp factorial floor gamma gcd greatest isfinite isinf
isnan lcm least ln log log10 log2 mod nextafter pi pow power radians round round_even sign sin sqrt tan trunc fdiv fmod
ascii bar bin chr concat concat_ws contains ends_with format hex instr left length len levenshtein lower lcase lpad
ltrim md5 prefix position printf regexp_escape regexp_extract regexp_extract_all regexp_full_match regexp_matches
regexp_replace regexp_split_to_array repeat replace reverse right rpad rtrim sha1 sha256 split split_part starts_with
str_split str_split_regex string_split string_split_regex string_to_array strip_accents strlen strpos substr substring
suffix translate trim ucase unicode upper url_decode url_encode array_to_string char_length character_length
damerau_levenshtein jaccard jaro_similarity jaro_winkler_similarity hamming like_escape ilike_escape not_like_escape
not_ilike_escape nfc_normalize editdist3 ord overlay
century date_add date_diff date_part date_sub date_trunc datediff datepart datesub datetrunc day dayname dayofmonth
dayofweek dayofyear decade days_in_month epoch epoch_ms epoch_ns epoch_us era hour isodow isoyear julian last_day
make_date make_time make_timestamp make_timestamp_ms make_timestamp_ns make_timestamptz microsecond millennium
millisecond minute month monthname nanosecond quarter second strftime strptime time_bucket timezone timezone_hour
timezone_minute to_centuries to_days to_decades to_hours to_microseconds to_millennia to_milliseconds to_minutes
to_months to_quarters to_seconds to_timestamp to_weeks to_years try_strptime week weekday weekofyear year yearweek
array_append array_cat array_concat array_contains array_distinct array_extract array_filter array_has array_has_all
array_has_any array_intersect array_length array_position array_prepend array_reverse array_slice array_sort
array_transform array_unique array_value cardinality element_at flatten list_aggregate list_any_value list_append
list_apply list_avg list_cat list_concat list_contains list_count list_distinct list_element list_extract list_filter
list_first list_has list_has_all list_has_any list_intersect list_last list_max list_min list_pack list_position
list_prepend list_reverse list_slice list_sort list_string_agg list_sum list_transform list_unique list_value
list_where list_zip map map_contains map_entries map_extract map_extract_value map_from_entries map_keys map_values
row struct_extract struct_insert struct_keys struct_pack unnest range generate_series
from_json json json_array json_array_length json_contains json_exists json_extract json_extract_path
json_extract_path_text json_extract_string json_keys json_object json_transform json_type json_valid json_value to_json
base64 from_base64 to_base64 bit_count xor
coalesce if ifnull nullif typeof constant_or_null try
"""
_AGGREGATE = """
any_value arbitrary arg_max arg_max_null arg_min arg_min_null argmax argmin array_agg avg bit_and bit_or bit_xor
bool_and bool_or corr count count_if count_star countif first fsum geomean group_concat kahan_sum last list listagg max
max_by mean median min min_by mode product quantile quantile_cont quantile_disc stddev stddev_pop stddev_samp
string_agg sum sumkahan var_pop var_samp variance entropy kurtosis skewness mad histogram
"""
_WINDOW = (
    "cume_dist dense_rank fill first_value lag last_value lead nth_value ntile percent_rank rank rank_dense row_number"
)

_AGGREGATES = frozenset(_AGGREGATE.split())
ALLOWED_FUNCTIONS = frozenset(_SCALAR.split()) | _AGGREGATES | frozenset(_WINDOW.split()) | frozenset(EXTRA_FUNCTIONS)

_CLASS_NAMES = """
BETWEEN CASE CAST COLLATE COLUMN_REF COMPARISON CONJUNCTION CONSTANT FUNCTION LAMBDA LAMBDA_REF OPERATOR
POSITIONAL_REFERENCE STAR SUBQUERY TYPE WINDOW
"""
_CLASSES = frozenset(_CLASS_NAMES.split())
_NOT_SCALAR = frozenset({"WINDOW", "SUBQUERY", "STAR", "POSITIONAL_REFERENCE"})
_TABLE_TYPES = frozenset({"BASE_TABLE", "SUBQUERY", "JOIN", "EMPTY", "EXPRESSION_LIST", "TABLE_FUNCTION"})
_NODE_TYPES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE"})

# parsed as columns, bound as functions where there is no such column
_KEYWORDS = """
current_catalog current_database current_date current_role current_schema current_time current_timestamp current_user
localtime localtimestamp session_user today user
"""
_KEYWORD_FUNCTIONS = frozenset(_KEYWORDS.split())


@dataclasses.dataclass(frozen=True)
class Fenced:
    """A text that passed.

    Attributes
    ----------
    text : str
        As the user wrote it: what was checked is what runs.
    tables : tuple of str
        The raw tables that it reads, as they are named in `sources`; empty for an expression.
    columns : tuple of str
        The columns that it names (of an expression: as the raw table spells them).
    names_all : bool
        Whether it reads no other columns: a star and a natural join read whatever there is.
    """

    text: str
    tables: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    names_all: bool = True


def quote(name: str) -> str:
    """Return a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a quoted text."""
    return "'" + text.replace("'", "''") + "'"


def check_expression(connection: Any, text: str, *, columns: Sequence[str], where: str, source: str) -> Fenced:
    """Check one scalar expression over the columns of one raw table.

    Parameters
    ----------
    connection : DuckDBPyConnection
        Whose parser reads the text; nothing is run.
    text : str
    columns : sequence of str
        Columns of the raw table.
    where : str
        What messages call the text, such as ``data.tables.deals.columns.outcome.expr``.
    source : str
        Name of the raw table, for messages.

    Raises
    ------
    MappingError
        Names the text's place, what is not allowed and what to do.
    """
    _parse(text, where, scalar=True)
    tree = _tree(connection, f"SELECT\n(\n{text}\n)\nFROM fenced", where)
    node = tree["node"]
    if not _is_bare_select(node) or len(node["select_list"]) != 1:
        raise MappingError(f"{where}: one scalar expression is needed, got {text!r}")
    named = []
    known = {column.casefold(): column for column in columns}
    bound = set(_lambda_parameters(node["select_list"]))
    for item in _expressions(node["select_list"]):
        kind = item["class"]
        if kind in _NOT_SCALAR or (kind == "FUNCTION" and item["function_name"].lower() in _AGGREGATES | {"unnest"}):
            raise MappingError(
                f"{where}: {_called(item)} is not allowed in an expression over one row; "
                "use `sql:` with one SELECT for aggregates, windows and subqueries"
            )
        _check_item(item, where, columns=known)
        if kind == "COLUMN_REF" and item["column_names"][0].casefold() not in bound:
            named.append(_known_column(item["column_names"], known, where=where, source=source))
    return Fenced(text, columns=tuple(dict.fromkeys(named)))


def check_select(
    connection: Any, text: str, *, sources: Collection[str], columns: Collection[str], where: str
) -> Fenced:
    """Check one SELECT over named raw tables.

    Parameters
    ----------
    connection : DuckDBPyConnection
        Whose parser reads the text; nothing is run.
    text : str
    sources : collection of str
        Names of the raw tables.
    columns : collection of str
        Columns of the raw tables that are known so far: a column may be called `user`, the function may not.
    where : str
        What messages call the text.

    Raises
    ------
    MappingError
        Names the text's place, what is not allowed and what to do.
    """
    text = text.strip().removesuffix(";")
    _parse(text, where, scalar=False)
    # inside brackets, as it will be run: a text that closes them early is no longer a single SELECT
    tree = _tree(connection, f"SELECT * FROM (\n{text}\n)", where)
    if not _is_bare_select(tree["node"]) or tree["node"]["from_table"].get("type") != "SUBQUERY":
        raise MappingError(f"{where}: one SELECT is needed")
    known = {column.casefold(): column for column in columns}
    for item in _expressions(tree):
        _check_item(item, where, columns=known)
    tables: list[str] = []
    _collect_tables(tree["node"], frozenset(), {name.casefold(): name for name in sources}, tables, where)
    own = tree["node"]["from_table"]["subquery"]
    named = {part for item in _expressions(own) if item["class"] == "COLUMN_REF" for part in item["column_names"]}
    joins = [part for part in _nodes(own) if part.get("type") == "JOIN"]
    named |= {column for join in joins for column in join["using_columns"]}
    # FROM without SELECT has a star too
    takes_any = any(item["class"] == "STAR" for item in _expressions(own))
    takes_any |= any(join["ref_type"] == "NATURAL" for join in joins)
    return Fenced(text, tuple(dict.fromkeys(tables)), tuple(sorted(named)), names_all=not takes_any)


def simple_condition(text: str) -> Any:
    """Return the parsed condition if any SQL engine reads it alike, else None.

    Simple are comparisons of columns with constants, IN lists, IS NULL, BETWEEN, and AND, OR, NOT over these.
    """
    parsed = sqlglot.parse_one(text, dialect="duckdb")
    simple = (
        exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT,
        exp.LTE, exp.And, exp.Or, exp.Not, exp.Paren, exp.In, exp.Is, exp.Between, exp.Neg,
    )  # fmt: skip
    return parsed if all(isinstance(node, simple) for node in parsed.walk()) else None


def _parse(text: str, where: str, *, scalar: bool) -> None:
    """Let sqlglot say what kind of text this is, with its place in the text where it cannot."""
    if not text.strip():
        raise MappingError(f"{where}: the text is empty")
    try:
        parsed = sqlglot.parse(f"SELECT {text}\n" if scalar else text, dialect="duckdb")
    except sqlglot.errors.SqlglotError as error:
        detail = getattr(error, "errors", None)
        at = f" at line {detail[0]['line']}, column {detail[0]['col']}" if detail else ""
        raise MappingError(f"{where}: not readable as DuckDB SQL{at}: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise MappingError(f"{where}: nested too deeply") from None
    statements = [statement for statement in parsed if statement is not None]
    if len(statements) != 1:
        raise MappingError(f"{where}: one {'expression' if scalar else 'SELECT'} is needed, got {len(statements)}")
    statement = statements[0]
    if not isinstance(statement, exp.Query) or isinstance(statement, exp.DML):
        raise MappingError(
            f"{where}: only one SELECT is allowed, got a statement of kind {type(statement).__name__.upper()}"
        )
    if scalar and (not isinstance(statement, exp.Select) or len(statement.expressions) != 1 or _has_clause(statement)):
        raise MappingError(f"{where}: one scalar expression is needed, got {text!r}")
    if any(with_.args.get("recursive") for with_ in statement.find_all(exp.With)):
        raise MappingError(f"{where}: recursive CTEs are not allowed")


def _has_clause(statement: exp.Select) -> bool:
    return any(value for key, value in statement.args.items() if key not in ("expressions", "kind"))


def _tree(connection: Any, text: str, where: str) -> Any:
    # all rows are fetched: DuckDB 2 refuses other work on a connection with an unfinished result
    row = connection.execute("SELECT json_serialize_sql($1::VARCHAR)", [text]).fetchall()[0]
    parsed = json.loads(row[0])
    if parsed["error"]:
        reason = parsed["error_message"].splitlines()[0]
        raise MappingError(f"{where}: DuckDB does not read this as one SELECT: {reason}")
    if len(parsed["statements"]) != 1:
        raise MappingError(f"{where}: one statement is needed, got {len(parsed['statements'])}")
    return parsed["statements"][0]


def _is_bare_select(node: Mapping[str, Any]) -> bool:
    """Whether a node is what we wrote around the text, and nothing broke out of it."""
    clauses = ("where_clause", "group_expressions", "group_sets", "having", "sample", "qualify", "modifiers")
    return (
        node["type"] == "SELECT_NODE"
        and not any(node[clause] for clause in clauses)
        and not node["cte_map"]["map"]
        and node["from_table"].get("type") in ("BASE_TABLE", "SUBQUERY")
        and not node["from_table"].get("alias")
    )


def _expressions(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every expression below a part of DuckDB's tree."""
    return (part for part in _nodes(tree) if "class" in part)


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield everything below a part of DuckDB's tree that has fields."""
    stack = [tree]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            yield part
            # a constant's content is the user's own text, not part of the tree
            stack.extend(value for key, value in part.items() if part.get("class") != "CONSTANT")
        elif isinstance(part, list):
            stack.extend(part)


def _lambda_parameters(tree: Any) -> Iterator[str]:
    for item in _expressions(tree):
        if item["class"] == "LAMBDA":
            for left in _expressions(item["lhs"]):
                if left["class"] == "COLUMN_REF":
                    yield left["column_names"][0].casefold()


def _check_item(item: Mapping[str, Any], where: str, *, columns: Mapping[str, str]) -> None:
    kind = item["class"]
    if kind not in _CLASSES:
        raise MappingError(f"{where}: {_called(item)} is not allowed")
    if kind == "COLUMN_REF" and len(item["column_names"]) == 1:
        name = item["column_names"][0].casefold()
        if name in _KEYWORD_FUNCTIONS and name not in columns:
            raise MappingError(f"{where}: {name} is not allowed: the result would depend on when or by whom it is run")
    if kind not in ("FUNCTION", "WINDOW"):
        return
    name = item["function_name"].lower()
    if item.get("schema") or item.get("catalog"):
        raise MappingError(f"{where}: write {name}(...) without a qualifier or a leading dot")
    if name not in ALLOWED_FUNCTIONS and not (item.get("is_operator") or _is_symbol(name)):
        known = sorted(ALLOWED_FUNCTIONS)
        raise MappingError(
            f"{where}: the function {name} is not allowed{nearest(name, known, cutoff=0.8)}; allowed are DuckDB's "
            f"scalar, aggregate and window functions without access to files, settings, the clock or chance, and "
            f"{', '.join(EXTRA_FUNCTIONS)}"
        )


def _is_symbol(name: str) -> bool:
    return not any(character.isalnum() or character == "_" for character in name)


def _called(item: Mapping[str, Any]) -> str:
    name = item.get("function_name")
    return (
        f"{name}(...)"
        if name
        else {"STAR": "*", "PARAMETER": "a parameter"}.get(item.get("class", ""), item.get("class", "one").lower())
    )


def _known_column(names: Sequence[str], known: Mapping[str, str], *, where: str, source: str) -> str:
    # a qualifier may be the raw table's own name, and a suffix a field of a struct
    for part in names[:2] if names[0].casefold() == source.casefold() else names[:1]:
        if part.casefold() in known:
            return known[part.casefold()]
    name = names[0]
    columns = list(known.values())
    raise MappingError(
        f"{where}: {source} has no column {name}{nearest(name, columns)} (columns: {', '.join(columns)})"
    )


def _collect_tables(part: Any, ctes: frozenset[str], sources: Mapping[str, str], found: list[str], where: str) -> None:
    """Walk DuckDB's tree with the CTEs in scope; what is not a CTE must be a named raw table."""
    if isinstance(part, list):
        for item in part:
            _collect_tables(item, ctes, sources, found, where)
        return
    if not isinstance(part, dict) or part.get("class") == "CONSTANT":
        return
    if "cte_map" in part:
        _check_node(part, where)
        for entry in part["cte_map"]["map"]:
            _collect_tables(entry["value"]["query_node"], ctes, sources, found, where)
            ctes = ctes | {entry["key"].casefold()}
    elif "class" not in part and "query_location" in part:
        _check_table_type(part, where)
        if part["type"] == "BASE_TABLE" and part["table_name"].casefold() not in ctes:
            found.append(_raw_table(part["table_name"], sources, where))
    for key, value in part.items():
        if key != "cte_map":
            _collect_tables(value, ctes, sources, found, where)


def _check_node(node: Mapping[str, Any], where: str) -> None:
    if node["type"] not in _NODE_TYPES:
        raise MappingError(f"{where}: {node['type'].replace('_NODE', '').lower()} is not allowed")
    if node.get("sample"):
        raise MappingError(f"{where}: USING SAMPLE is not allowed: the result would depend on chance")


def _check_table_type(table: Mapping[str, Any], where: str) -> None:
    kind = table["type"]
    function = table.get("function") or {}
    path = table.get("qualified_name", {}).get("path", [])
    refused = {
        "TABLESAMPLE is not allowed: the result would depend on chance": table.get("sample"),
        "POSITIONAL JOIN is not allowed: rows of a raw table have no order; join on a key": (
            table.get("ref_type") == "POSITIONAL"
        ),
        "AT is not allowed": table.get("at_clause"),
        f"table functions are not allowed, got {_called(function)}": (
            kind == "TABLE_FUNCTION" and function.get("function_name", "").lower() != "unnest"
        ),
        f"{'.'.join(path)} is not allowed: raw tables have no schema": kind == "BASE_TABLE" and len(path) != 1,
        f"{str(kind).replace('_', ' ').lower()} is not allowed in FROM": kind not in _TABLE_TYPES,
    }
    for reason, holds in refused.items():
        if holds:
            raise MappingError(f"{where}: {reason}")


def _raw_table(name: str, sources: Mapping[str, str], where: str) -> str:
    if name.casefold() not in sources:
        known = sorted(sources.values())
        raise MappingError(
            f"{where}: there is no raw table {name!r}{nearest(name, known)} (raw tables: {', '.join(known) or 'none'})"
        )
    return sources[name.casefold()]
