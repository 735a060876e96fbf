"""The documentation is held against the code: names, defaults, commands and links; its examples run."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml
from tests.conftest import FOLDS

import partnerml
from partnerml import schema
from partnerml.cli import app
from partnerml.config import Config, describe

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.glob("*.md")))
IDS = [page.name for page in PAGES]
# what shares the sample runs in one process, which makes it once, and its models for the demo too
ONE_PROCESS = pytest.mark.xdist_group("docs")


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where a dataclass looks for its own types
    spec.loader.exec_module(module)
    return module


FROM_CODE = _module("from_code", DOCS / "_ext" / "from_code.py")


@dataclasses.dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


_FENCE = re.compile(r"^(?P<fence>```+)(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=fence)\s*$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[Block]:
    """Fenced blocks of a language, with the line that their text starts on."""
    source = page.read_text(encoding="utf-8")
    return [
        Block(page, source.count("\n", 0, found.start("text")) + 1, language, found["text"])
        for found in _FENCE.finditer(source)
        if found["language"].strip() == language
    ]


def rendered(page: Path) -> str:
    """A page with what is read off the code in its place."""

    def expand(found: re.Match[str]) -> str:
        directive = re.fullmatch(r"\{([\w-]+)\}\s*(.*)", found["language"].strip())
        if directive is None or directive[1] not in FROM_CODE.DIRECTIVES:
            return found[0]
        return str(FROM_CODE.DIRECTIVES[directive[1]](directive[2].strip()))

    return _FENCE.sub(expand, page.read_text(encoding="utf-8"))


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next of its level."""
    level = heading.split(" ")[0]
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^{level} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"there is no heading {heading!r}"
    return found[1]


# names and defaults


@pytest.mark.parametrize("name", schema.TABLES)
def test_every_table_and_column_is_told(name: str) -> None:
    text = section(rendered(DOCS / "tables.md"), f"## {name}")
    missing = [column for column in schema.TABLES[name].names if f"| `{column}` |" not in text]
    assert not missing


@pytest.mark.parametrize("info", describe(), ids=lambda info: info.key)
def test_every_key_is_told_with_its_default(info: Any) -> None:
    text = rendered(DOCS / "configuration.md")
    row = next((line for line in text.splitlines() if line.startswith(f"| `{info.key}` |")), "")
    assert info.meaning.replace("|", "\\|") in row
    assert info.default in row
    assert info.meaning, "a key without a meaning"


@pytest.mark.parametrize("name", sorted(app.commands))
def test_every_command_has_a_section_with_an_example(name: str) -> None:
    text = section(rendered(DOCS / "commands.md"), f"## {name}")
    assert f"$ partnerml {name}" in text
    for option in app.commands[name].params:
        if isinstance(option, click.Option) and not option.hidden:
            assert max(option.opts, key=len) in text


def test_no_command_is_told_that_does_not_exist() -> None:
    told = re.findall(r"^## (\S+)$", (DOCS / "commands.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(told) == sorted(app.commands)


@pytest.mark.parametrize("name", [name for name in partnerml.__all__ if name != "__version__"])
def test_every_public_name_is_on_the_api_page(name: str) -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    assert re.search(rf":: partnerml\.{name}\b", text) is not None


def test_every_error_type_is_told() -> None:
    from partnerml import errors

    text = rendered(DOCS / "errors.md")
    types = [n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.PartnermlError)]
    assert [name for name in types if f"| `{name}` |" not in text] == []


def test_every_measure_is_told() -> None:
    from partnerml.features import MEASURES, Feature, describe

    rows = [line.split(" | ") for line in rendered(DOCS / "features.md").splitlines() if line.startswith("| `")]
    told = {(row[0], row[1]) for row in rows}
    wanted = {(f"| `{entry.name}`", describe(Feature.example(entry)).words) for entry in MEASURES}
    assert wanted - told == set()


def test_every_field_of_the_feature_dictionary_is_told() -> None:
    from partnerml.dataset import FeatureInfo

    text = section((DOCS / "features.md").read_text(encoding="utf-8"), "## The feature dictionary")
    assert [field.name for field in dataclasses.fields(FeatureInfo) if f"`{field.name}`" not in text] == []


def test_the_whole_default_catalogue_is_told() -> None:
    text = rendered(DOCS / "features.md")
    infos = FROM_CODE._dictionary("churn")
    assert [info.name for info in infos if f"| `{info.name.split('__')[-2]}` |" not in text] == []
    told = re.findall(r"^\*\*.* \((\d+)\)\*\*$", text, re.MULTILINE)
    assert sum(map(int, told)) == len(infos)


def test_the_time_line_is_drawn_from_the_engine() -> None:
    timeline = _module("timeline", DOCS / "timeline.py")
    found = timeline.scene()
    # what is not seen: before the longest window, recorded late, after as_of
    assert max(found.counts) == sum(found.cells) == len(timeline.ROWS) - 3
    assert timeline.draw(found) == timeline.PATH.read_text(encoding="utf-8"), "run python docs/timeline.py"


def test_every_extra_function_is_told() -> None:
    from partnerml.ecosystem._functions import EXTRA_FUNCTIONS

    text = section((DOCS / "own-data.md").read_text(encoding="utf-8"), "## Functions")
    assert [name for name in EXTRA_FUNCTIONS if f"`{name}(" not in text] == []


def test_numbers_in_the_text_are_those_of_the_code() -> None:
    from partnerml import pairs, scoring, tasks
    from partnerml.features import _cover, _defaults, _lists, _win_rates
    from partnerml.training import _churn, _close, _close_rates, _fit, _propensity, _recipe

    numerals = {2: "two", 8: "eight", 10: "ten", 200: "two hundred"}
    low, medium, high = (f"{cut:g}".lstrip("0") for cut in scoring.DEFAULT_CUTS)
    told = {
        "churn.md": (
            f"up to {_churn.MAX_SNAPSHOTS} of them",
            f"up to {numerals[_recipe.MAX_FOLDS]}",
            f"At least {numerals[_recipe.MIN_FOLDS]} monthly origins",
            f"{_recipe.MIN_MINORITY} rows of each label",
            f"`tasks.churn.max_rows` rows ({_churn.MAX_ROWS:,})",
        ),
        "fit.md": (f"`max_rows` partners ({_fit.MAX_ROWS:,})",),
        "propensity.md": (f"`max_rows` accounts ({_propensity.MAX_ROWS:,})",),
        "evaluation.md": (
            f"| `churn` | {_churn.MAX_ROWS:,} rows |",
            f"| `fit` | {_fit.MAX_ROWS:,} rows |",
            f"| `propensity` | {_propensity.MAX_ROWS:,} rows |",
            f"| `close` | {_close.MAX_PAIRS:,} rows |",
            f"fewer than {_propensity.LEAST_OF_RARER:,} of the rarer label",
        ),
        "close.md": (
            f"Of more than {_close.MAX_PAIRS:,} pairs",
            f"the (at most {_close_rates.PARTNERS}) partners",
            f"{numerals[_close_rates.LEADS]} drawn from all",
            f"the first {_close_rates._NAMED} of them",
        ),
        "scores.md": (
            f"at {low}, {medium} and {high}",
            f"says of {scoring.TREND_DAYS} days earlier",
            f"from {scoring.TREND_POINTS:g} points up",
            ", ".join(f"`risk_{days}d`" for days in tasks.RISK_DAYS),
        ),
        "features.md": (
            f"windows of {', '.join(map(str, _defaults.WINDOWS[:-1]))} and {_defaults.WINDOWS[-1]} days",
            f"first snapshot, the {_defaults.MAX_TYPES} most frequent",
            f"each of the {_lists.MAX_ITEMS} most frequent items",
            f"the weight of {numerals[int(_win_rates.PRIOR_DEALS)]} deals",
            f"the weight of {numerals[int(pairs.PSEUDO_COUNT)]} leads",
        ),
        "incremental.md": ("spans of {2}, {1} and {0} days".format(*_cover.LEVELS),),
    }
    for page, phrases in told.items():
        text = " ".join((DOCS / page).read_text(encoding="utf-8").split())
        assert [phrase for phrase in phrases if phrase not in text] == []


def test_pages_are_all_in_the_table_of_contents() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    missing = [page.stem for page in DOCS.glob("*.md") if not re.search(rf"^{page.stem}$", index, re.MULTILINE)]
    assert missing == ["index"]


# what is written inside the pages


def command_lines(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Each `$ ...` line of a console block, continuation lines joined."""
    for block in blocks(page, "console"):
        for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
            if line.startswith("$ "):
                yield str(block), shlex.split(line[2:], comments=True)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_command_lines_parse(page: Path) -> None:
    for where, words in command_lines(page):
        if words[0] != "partnerml":
            continue
        assert words[1] in app.commands, where
        command = app.commands[words[1]]
        parent = app.make_context("partnerml", [], resilient_parsing=True)
        with command.make_context(words[1], words[2:], parent=parent) as context:
            assert not context.args, where


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_named_in_the_text_exist(page: Path) -> None:
    named = re.findall(r"`partnerml ([a-z][a-z-]*)[^`]*`", page.read_text(encoding="utf-8"))
    assert set(named) <= set(app.commands)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = re.findall(r"(?:`|^|\$ )make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(named) <= targets


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_files_named_by_links_exist(page: Path) -> None:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_headings_named_by_links_exist(page: Path) -> None:
    for file, anchor in re.findall(r"\]\(([\w.-]+\.md)?#([\w-]+)\)", page.read_text(encoding="utf-8")):
        target = page.parent / file if file else page
        headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in slugs, f"{page.name} links to {target.name}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_configurations_are_accepted(page: Path) -> None:
    for block in blocks(page, "yaml"):
        tree = yaml.safe_load(block.text)
        Config.from_dict(tree, base=ROOT, name=str(block))


# examples run


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, shared_train: None) -> Path:
    """The folder that the quickstart leaves behind: its own commands, run in order, on half the usual sample."""
    from partnerml.training import _recipe

    folder = tmp_path_factory.mktemp("docs")
    (partners,) = (option for option in app.commands["init"].params if option.name == "partners")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(partners, "default", 1000)
        patch.setattr(_recipe, "MAX_FOLDS", FOLDS)
        for where, words in command_lines(DOCS / "quickstart.md"):
            if words[0] == "partnerml" and words[1] != "demo":
                assert app.main([*words[1:], "--quiet"], standalone_mode=False) == 0, where
    return folder / "crm"


def _forget_store() -> None:
    # a page that shows MLflow's own functions sets the store of the whole process
    if "mlflow" in sys.modules:
        sys.modules["mlflow"].set_tracking_uri(None)


@pytest.mark.slow
@ONE_PROCESS
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_runs(
    page: Path,
    sample: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    """Every block of a page, in one namespace; a comment behind a `print` is what it prints."""
    folder = tmp_path / "crm"
    shutil.copytree(sample, folder)
    monkeypatch.chdir(folder)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    request.addfinalizer(_forget_store)
    for block in blocks(page, "python"):
        # empty lines in front, so that a traceback shows the line of the page
        exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), namespace)
        printed = capsys.readouterr().out
        for promised in re.findall(r"^print\(.*\)  # (.+)$", block.text, re.MULTILINE):
            assert promised in printed.splitlines(), str(block)


@pytest.mark.slow
@ONE_PROCESS
def test_every_score_column_is_told(sample: Path) -> None:
    import pyarrow.parquet as pq

    (path,) = sample.glob("out/scores/churn/date=*/scores.parquet")
    columns = pq.ParquetFile(path).schema_arrow.names
    told = re.findall(
        r"`(\w+)`", "\n".join(re.findall(r"^\| (`.*?) \|", (DOCS / "scores.md").read_text(), re.MULTILINE))
    )
    assert sorted(told) == sorted(columns)


@pytest.mark.slow
@ONE_PROCESS
def test_every_file_of_a_model_is_told(sample: Path, tmp_path: Path) -> None:
    from partnerml import load_model

    model = load_model("models:/churn@champion", store=sample / "out" / "mlflow.db")
    files = {re.sub(r"\..*\.txt$", ".*.txt", path.name) for path in model.save(tmp_path / "model").iterdir()}
    text = (DOCS / "models.md").read_text(encoding="utf-8")
    assert [name for name in files if f"`{name}`" not in text] == []
