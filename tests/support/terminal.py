"""A terminal that a test looks at: a pseudo-terminal, and as much of a VT100 as curses needs to draw on it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping, Sequence

from tests.support.running import Deadline, Missed, wait_readable

_ESCAPE = re.compile(r"\x1b(?:\[(\??)([0-9;]*)([A-Za-z])|[()][A-Z0-9]|[=>78M])|[\x0e\x0f\x00]")


class Terminal:
    """A process in the foreground of a terminal of its own."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, columns: int = 80, rows: int = 24
    ) -> None:
        self._master, slave = pty.openpty()
        self.written = ""
        self._undrawn = ""
        self.resize(columns, rows)
        self.settings_before = termios.tcgetattr(slave)
        self._slave = slave
        self._process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *command], env=environment, stdin=slave, stdout=slave, stderr=slave
        )

    def resize(self, columns: int, rows: int) -> None:
        """The kernel tells the process."""
        self._columns, self._rows = columns, rows
        self._cells = [[" "] * columns for _ in range(rows)]
        self._row = self._column = 0
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    @property
    def lines(self) -> list[str]:
        """What is to be seen, without what is empty."""
        return [line for row in self._cells if (line := "".join(row).rstrip())]

    @property
    def settings(self) -> object:
        """Of the terminal, as the process has left them."""
        return termios.tcgetattr(self._slave)

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._master, keys.encode())

    def wait_for(self, *texts: str) -> str:
        """Until all of these are to be seen at the same time."""
        return self._wait(lambda: all(text in "\n".join(self.lines) for text in texts), texts)

    def wait_for_written(self, text: str) -> str:
        """Until this was written, to be seen still or not."""
        return self._wait(lambda: text in self.written, text)

    def wait(self) -> int:
        """The exit status."""
        status = -1

        def has_ended() -> bool:
            nonlocal status
            ended = self._process.poll()
            status = -1 if ended is None else ended
            return ended is not None

        pidfd = os.pidfd_open(self._process.pid)
        try:
            self._wait(has_ended, "its end", pidfd)
            while self._read(Deadline(0)):
                pass
            return status
        finally:
            os.close(pidfd)

    def hang_up(self) -> None:
        """Nobody sits at it any more."""
        os.close(self._master)
        os.close(self._slave)
        self._process.wait()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)
        os.close(self._slave)

    def _wait(self, is_so: Callable[[], bool], wanted: object, *more: int) -> str:
        deadline = Deadline()
        while not is_so():
            if not self._read(deadline, *more):
                raise Missed(f"no {wanted!r} to be seen:\n" + "\n".join(self.lines) + f"\n{self.written[-2000:]!r}")
        return "\n".join(self.lines)

    def _read(self, deadline: Deadline, *more: int) -> bool:
        ready = wait_readable([self._master, *more], deadline)
        if self._master in ready:
            text = os.read(self._master, 65536).decode(errors="replace")
            self.written += text
            self._draw(text)
        return bool(ready)

    def _draw(self, text: str) -> None:
        text, self._undrawn = self._undrawn + text, ""
        place = 0
        while place < len(text):
            escape = _ESCAPE.match(text, place)
            if escape:
                self._obey(escape[3], [int(number or 0) for number in (escape[2] or "0").split(";")])
                place = escape.end()
                continue
            if text[place] == "\x1b" and len(text) - place < 20:
                self._undrawn = text[place:]  # cut in the middle
                return
            self._put(text[place])
            place += 1

    def _put(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            if self._row == self._rows - 1:
                self._cells = [*self._cells[1:], [" "] * self._columns]
            self._row = min(self._row + 1, self._rows - 1)
        elif character == "\b":
            self._column = max(0, self._column - 1)
        elif character >= " ":
            with contextlib.suppress(IndexError):
                self._cells[self._row][self._column] = character
            self._column += 1

    def _obey(self, letter: str | None, numbers: list[int]) -> None:
        first = max(1, numbers[0])
        if letter in ("H", "f"):
            self._row, self._column = first - 1, max(1, [*numbers, 1][1]) - 1
        elif letter in ("A", "B"):
            self._row += first if letter == "B" else -first
        elif letter in ("C", "D"):
            self._column += first if letter == "C" else -first
        elif letter == "K":
            begin, end = ((self._column, self._columns), (0, self._column + 1), (0, self._columns))[numbers[0]]
            self._cells[self._row][begin:end] = [" "] * (end - begin)
        elif letter == "J":
            if numbers[0] == 0:
                self._obey("K", [0])
            for row in range(self._row + 1 if numbers[0] == 0 else 0, self._rows):
                self._cells[row] = [" "] * self._columns
