"""Progress: in a file one line for each event, on a terminal one line that is redrawn, and no control characters."""

import io
import time

import pytest

from zdd_agent.cli.progress_line import Progress, plain


class Terminal(io.StringIO):
    """What a person looks at."""

    def isatty(self) -> bool:
        return True


def event(text: str, until: float | None = None) -> dict[str, object]:
    return {"seq": 1, "at": 0.0, "phase": "draining", "text": text, "until": until}


@pytest.fixture(autouse=True)
def _a_plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_elsewhere_than_on_a_terminal_each_event_is_one_line_and_nothing_else() -> None:
    stream = io.StringIO()
    with Progress("drain", stream) as progress:
        progress.show(event("deregistered web i-me:8080"))
        progress.show(event("settled"))
    assert stream.getvalue() == "drain: deregistered web i-me:8080\ndrain: settled\n"


def test_an_event_says_how_long_nothing_can_change() -> None:
    stream = io.StringIO()
    with Progress("drain", stream) as progress:
        progress.show(event("draining", until=time.time() + 1000))
        progress.show(event("draining", until=time.time() - 1000))
    lines = stream.getvalue().splitlines()
    seconds = int(lines[0].removeprefix("drain: draining (next look in ").removesuffix(" s)"))
    assert 0 < seconds <= 1000
    assert lines[1] == "drain: draining (next look in 0 s)"


def test_on_a_terminal_one_line_is_drawn_over_and_left_clean() -> None:
    stream = Terminal()
    with Progress("drain", stream) as progress:
        progress.show(event("one"))
        progress.show(event("two"))
    assert "\n" not in stream.getvalue()
    assert stream.getvalue().count("\r\x1b[K") >= 3
    assert stream.getvalue().endswith("\r\x1b[K")


def test_the_terminal_is_left_clean_after_a_ctrl_c() -> None:
    stream = Terminal()

    def follow() -> None:
        with Progress("drain", stream) as progress:
            progress.show(event("one"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_a_line_never_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    with Progress("drain", stream) as progress:
        progress.show(event("a" * 200))
    drawn = stream.getvalue().split("\r\x1b[K")
    assert max(len(line) for line in drawn) == 19


def test_no_color_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    colored, uncolored = Terminal(), Terminal()
    with Progress("drain", colored) as progress:
        progress.show(event("one"))
    monkeypatch.setenv("NO_COLOR", "1")
    with Progress("drain", uncolored) as progress:
        progress.show(event("one"))
    assert "\x1b[2m" in colored.getvalue()
    assert "\x1b[2m" not in uncolored.getvalue()


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with Progress("drain", stream) as progress:
        progress.show(event("one"))
    assert stream.getvalue() == "drain: one\n"


def test_a_reader_that_went_away_does_not_end_the_command() -> None:
    stream = io.StringIO()
    with Progress("drain", stream) as progress:
        stream.close()
        progress.show(event("one"))


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "a\rb", "a\nb", "\x9b2J", "\x07", "\u202eevil", "\u2028", "\x7f", "\x00", "\ud800"]
)
def test_nothing_that_acts_on_a_terminal_gets_through(text: str) -> None:
    shown = plain(text)
    assert shown.isprintable()
    assert len(shown) == len(text)


def test_text_of_people_gets_through() -> None:
    assert plain("Größe 日本 — 5 µs") == "Größe 日本 — 5 µs"
