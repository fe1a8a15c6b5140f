"""`sdsupervise status --watch`: the status, kept up to date.

curses instead of rich: it reads keys, follows a resize, sends only changes over a slow line, and is in every Python of
Debian and Fedora.
"""

import contextlib
import locale
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping

from ..errors import ConfigError, ExitStatus, UsageError
from .ask import Asked, ask_all
from .process_usage import Usage
from .terminal import Screen, count
from .tree import Meter, StyledLine, lines

_EVERY_SECONDS = 1.0  # between two looks, whatever keys are pressed
_ANSWER_SECONDS = 1.0  # for each supervisor
_COLOURS = {"good": 2, "bad": 1, "busy": 3}  # curses.COLOR_GREEN, _RED, _YELLOW


def watch(paths: Callable[[], Mapping[str, str]]) -> int:
    """Show these instances until the user presses q; `paths` gives their control sockets by name at each look.

    Raises UsageError without a terminal, ConfigError without curses.
    """
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise UsageError("--watch needs a terminal; without it 'sdsupervise status' shows the same once.")
    try:
        import curses
    except ImportError:
        raise ConfigError(f"--watch needs Python's curses, which {sys.executable} lacks (Debian: python3).") from None
    locale.setlocale(locale.LC_ALL, "")  # else curses writes only ASCII
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # curses.wrapper cleans up
    try:
        with contextlib.suppress(KeyboardInterrupt):
            curses.wrapper(lambda window: _Watch(curses, window, paths).run())
    except curses.error as error:
        raise UsageError(f"--watch cannot use this terminal (TERM={os.environ.get('TERM', '')}): {error}.") from error
    return ExitStatus.OK


class _Watch:
    def __init__(self, curses, window, paths: Callable[[], Mapping[str, str]]) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        self._curses, self._window, self._paths = curses, window, paths
        self._screen = Screen()
        self._known: dict[str, str] = {}  # instances seen once stay in the list
        self._asked: list[Asked] = []
        self._meters: dict[str, Meter] = {}
        self._cpu: dict[int, tuple[float, float]] = {}  # by pid: its CPU seconds, and the time of the look
        self._percent: dict[int, str] = {}
        self._top = 0
        self._attributes = {"bold": curses.A_BOLD, "dim": curses.A_DIM}
        with contextlib.suppress(curses.error):
            curses.curs_set(0)
        if curses.has_colors() and self._screen.colours:
            curses.use_default_colors()
            for style, colour in _COLOURS.items():
                curses.init_pair(colour, colour, -1)
                self._attributes[style] = curses.color_pair(colour)

    def run(self) -> None:
        """Look and draw until the user presses q."""
        next_look = 0.0
        while True:
            if time.monotonic() >= next_look:
                self._look()
                next_look = time.monotonic() + _EVERY_SECONDS
            height = self._draw()
            self._window.timeout(max(1, int(1000 * (next_look - time.monotonic()))))
            key = self._window.getch()
            if key in (ord("q"), ord("Q"), 27):
                return
            self._scroll(key, height)

    def _look(self) -> None:
        self._known.update(self._paths())
        self._asked = ask_all(self._known, timeout_seconds=_ANSWER_SECONDS)
        self._meters, cpu = {}, self._cpu
        self._cpu, self._percent = {}, {}

        def percent(pid: int, usage: Usage) -> str:
            if pid not in self._cpu:
                now = time.monotonic()
                self._cpu[pid] = (usage.cpu_seconds, now)
                if pid in cpu:
                    used, then = cpu[pid]
                    self._percent[pid] = f"{max(0.0, 100 * (usage.cpu_seconds - used) / (now - then)):.1f}"
            return self._percent.get(pid, "")

        for asked in self._asked:
            if asked.facts is not None:
                self._meters[asked.name] = Meter(asked.facts["pid"], uid=asked.uid, heading="CPU%", cpu=percent)

    def _draw(self) -> int:
        """Draw everything again. Returns the number of lines, including hidden ones."""
        height, width = self._window.getmaxyx()
        title = f"sdsupervise status --watch   {time.strftime('%H:%M:%S')}"
        shown = [line for asked in self._asked for line in (*self._lines(asked, height, width), StyledLine(""))]
        room = height - 2
        self._top = max(0, min(self._top, len(shown) - room))
        hidden = len(shown) - self._top - room
        foot = "q leaves" + (f"   ↓ {count(hidden, 'more line')}" if hidden > 0 else "") + ("   ↑" if self._top else "")
        self._window.erase()
        for number, line in enumerate([StyledLine(title, "dim"), *shown[self._top : self._top + room]]):
            self._put(number, line, width)
        self._put(height - 1, StyledLine(foot, "dim"), width)
        self._window.refresh()
        return len(shown)

    def _lines(self, asked: Asked, height: int, width: int) -> list[StyledLine]:
        facts = asked.facts
        if facts is None:
            name = asked.name or asked.path
            if asked.condition in ("stopped", "dead"):
                return [StyledLine(f"○ {name}   waiting for {name}…", "busy")]
            return [StyledLine(f"○ {name}   {asked.condition}", "bad"), StyledLine(f"  {asked.sentence}")]
        room = height - 3 if len(self._asked) == 1 else 0
        meter = self._meters[asked.name]
        found = lines(asked.name, facts, asked.sender, meter, self._screen, full=False, most=max(10, room))
        if len(found) > room > 0:
            fewer = max(3, len(facts["workers"]) - (len(found) - room))
            found = lines(asked.name, facts, asked.sender, meter, self._screen, full=False, most=fewer)
        return found

    def _put(self, row: int, line: StyledLine, width: int) -> None:
        encoding = self._window.encoding
        text = line.text.encode(encoding, "replace").decode(encoding)
        with contextlib.suppress(self._curses.error):  # a terminal can become smaller at any moment
            self._window.addnstr(row, 0, text, width - 1, self._attributes.get(line.style, 0))

    def _scroll(self, key: int, height: int) -> None:
        page = max(1, self._window.getmaxyx()[0] - 3)
        steps = {"KEY_DOWN": 1, "KEY_UP": -1, "KEY_NPAGE": page, "KEY_PPAGE": -page, "KEY_HOME": -height}
        by_key = {getattr(self._curses, name): step for name, step in steps.items()}
        self._top = max(0, self._top + {**by_key, ord("j"): 1, ord("k"): -1, ord(" "): page}.get(key, 0))
