import io
import logging

import pytest

from partnerml.progress import Bars, Lines, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(params=["silent", "lines", "bars"])
def progress(request) -> Progress:
    return {"silent": Progress.silent, "lines": Lines, "bars": lambda: Bars(Terminal())}[request.param]()


def test_items_come_through_in_order(progress):
    with progress.stage("outer"):
        outer = [(a, b) for a in progress.track("xy", "letters") for b in progress.track(iter([1, 2]), "digits")]
    assert outer == [("x", 1), ("x", 2), ("y", 1), ("y", 2)]


def test_errors_pass_and_the_next_use_works(progress):
    with pytest.raises(ZeroDivisionError), progress.stage("stage"):
        [1 / item for item in progress.track([0], "items")]
    assert list(progress.track([1], "again")) == [1]


def test_a_terminal_gets_bars_and_a_file_gets_log_lines():
    assert isinstance(Progress.on(Terminal()), Bars)
    assert isinstance(Progress.on(io.StringIO()), Lines)


def test_silent_says_nothing(caplog, capfd):
    progress = Progress.silent()
    with caplog.at_level(logging.DEBUG), progress.stage("stage"):
        progress.say("text")
        list(progress.track([1], "items"))
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_lines_tell_stages_texts_and_slow_loops(caplog, monkeypatch):
    seconds = iter(range(0, 1000, 6))
    monkeypatch.setattr("partnerml.progress.time.monotonic", lambda: float(next(seconds)))
    progress = Lines()
    with caplog.at_level(logging.INFO, logger="partnerml"):
        progress.say("100 % of [partners]")
        with progress.stage("train"):
            list(progress.track(range(6), "folds"))
    texts = [record.getMessage() for record in caplog.records]
    assert texts[:2] == ["100 % of [partners]", "train ..."]
    assert "folds: 1 of 6" in texts
    assert texts[-1].startswith("train: done in ")


def test_bars_print_texts_as_they_are():
    terminal = Terminal()
    progress = Bars(terminal)
    progress.say("[bold]not markup[/bold]")
    with progress.stage("[red]stage[/red]"):
        pass
    assert "[bold]not markup[/bold]\n" in terminal.getvalue()
    assert "[red]stage[/red]: 0.0 s\n" in terminal.getvalue()
