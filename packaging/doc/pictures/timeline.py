"""A reload with each hand-over as a timeline of its processes, drawn from reload.json, which record.py has recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import states
from recorded import LAST_REQUEST_SECONDS, WARM_UP_SECONDS
from svg import Box, Picture

from sdsupervise.core.takeover import RULES, Effect, Event, State

RECORD = Path(__file__).parent / "reload.json"
_WIDTH = 940
_LEFT, _RIGHT = 184, 918  # of the axis
_BEFORE = 0.12  # seconds that are shown of the time before the reload
_BAR = 18
_TOP, _PANEL = 104, 330
_TITLES: Mapping[str, str] = {
    "exclusive": "never two generations at once: the old workers stop before the new workers serve",
    "overlap": "the old workers keep serving until the new workers have proved that they serve",
}


class Reload:
    """One recorded reload, by what happened when; all times in seconds."""

    def __init__(self, recorded: Mapping[str, Any]) -> None:
        self.handover: str = recorded["handover"]
        self.systemd: str = recorded["systemd"]
        self._steps: Sequence[Mapping[str, Any]] = recorded["steps"]

    def at(self, process: str, what: str, **more: object) -> float:
        """When this happened."""
        wanted = {"process": process, "what": what, **more}
        return next(float(step["at"]) for step in self._steps if wanted.items() <= step.items())

    @property
    def commit(self) -> float:
        """When the caller got its verdict."""
        return self.at("supervisor", "reloaded")

    @property
    def end(self) -> float:
        """When the last process of the old generation left."""
        return self.at("supervisor", "drained")

    @property
    def phases(self) -> list[tuple[str, float, float]]:
        """The states of the predecessor, each with its begin and its end."""
        first = states.name(RULES[State.SERVING][Event.RELOAD_ASKED].next)
        last = _entered_by(Effect.TELL_COMMITTED)
        begins = [
            (first, self.at("supervisor", "reload-started")),
            *((str(step["phase"]), float(step["at"])) for step in self._steps if step["what"] == "reload-phase"),
            (last, self.commit),
        ]
        ends = [*(at for _, at in begins[1:]), self.end]
        return [(name, at, end) for (name, at), end in zip(begins, ends, strict=True)]

    def entered(self, effect: Effect) -> float:
        """When the predecessor did this on its way into a state."""
        return next(at for name, at, _ in self.phases if name == _entered_by(effect))


def _entered_by(effect: Effect) -> str:
    """The name of the state on whose way a supervisor does this."""
    return next(states.name(rule.next) for rules in RULES.values() for rule in rules.values() if effect in rule.effects)


def reloads() -> list[Reload]:
    """As they were recorded."""
    return [Reload(recorded) for recorded in json.loads(RECORD.read_text())]


def draw(theme: str) -> str:
    """The picture, as SVG."""
    found = reloads()
    # The words beside the commit need some room, too.
    longest = max(max(reload.end + 0.12, reload.commit * 1.38) for reload in found)
    height = _TOP + _PANEL * len(found) - 8
    picture = Picture(_WIDTH, height, "One reload as a timeline of its processes, exclusive and overlap", theme)
    picture.text((24, 38), "One reload, process by process", size=18, bold=True)
    systemd = found[0].systemd.partition(".")[0]
    picture.text((24, 60), f"Recorded with systemd {systemd}; seconds since systemctl reload.", size=12, colour="faint")
    words = (
        f"A worker takes {WARM_UP_SECONDS:g} s to warm up and {LAST_REQUEST_SECONDS:g} s for its last request; "
        "before_commit and probation are set."
    )
    picture.text((24, 77), words, size=12, colour="faint")
    for number, reload in enumerate(found):
        _Panel(picture, reload, _TOP + number * _PANEL, longest).draw()
    return str(picture)


class _Panel:
    """One of the two timelines."""

    def __init__(self, picture: Picture, reload: Reload, top: float, longest: float) -> None:
        self._picture, self._reload, self._top, self._longest = picture, reload, top, longest
        self._y = top + 84.0  # of the next row

    def draw(self) -> None:
        """Draw it."""
        picture, reload = self._picture, self._reload
        picture.box(Box(8, self._top - 8, _WIDTH - 16, _PANEL - 12), fill="band", radius=10)
        picture.text((24, self._top + 16), reload.handover, size=15, bold=True, code=True)
        x = 24 + 10.2 * len(reload.handover)
        picture.text((x, self._top + 16), _TITLES[reload.handover], size=12, colour="faint")
        self._draw_axis()
        self._draw_phases()
        self._draw_rows()
        self._draw_commit()

    def _x(self, at: float) -> float:
        return round(_LEFT + (at + _BEFORE) / (self._longest + _BEFORE) * (_RIGHT - _LEFT), 1)

    def _draw_axis(self) -> None:
        bottom = self._top + _PANEL - 44
        for tenth in range(0, int(self._longest * 10) + 1, 5):
            x = self._x(tenth / 10)
            self._picture.line((x, self._top + 44), (x, bottom), colour="rule", width=1)
            self._picture.text((x, bottom + 14), f"{tenth / 10:g} s", size=10, colour="faint", anchor="middle")

    def _draw_phases(self) -> None:
        """The predecessor's states: names in those that are long enough, the others' names beside a tick below."""
        y = self._top + 46
        self._picture.text((24, y + 12), "state of supervisor 1", size=11)
        phases = self._reload.phases
        for name, begin, end in phases:
            left, right = self._x(begin), self._x(end)
            if right - left > 4:
                self._picture.box(
                    Box(left, y, right - left - 1, 16), fill="old-soft", stroke="old", radius=3, width=0.8
                )
            if right - left > 6.3 * len(name):
                self._picture.text(((left + right) / 2, y + 11.5), name, size=10, anchor="middle", code=True)
            else:
                self._picture.line((left, y), (left, y + 20), colour="old", width=1.6)
                at, anchor = (left + 4, "start") if name == phases[-1][0] else (left - 3, "end")
                self._picture.text((at, y + 28), name, size=10, anchor=anchor, code=True, halo="band")

    def _draw_rows(self) -> None:
        reload, first, last = self._reload, -_BEFORE, self._longest
        free, named = reload.entered(Effect.CLOSE_LOCK), reload.entered(Effect.NAME_MAIN_PID)
        ready = reload.at("supervisor", "worker-ready", generation=2)
        serves = [reload.at("worker", "serves", generation=2, index=index) for index in (0, 1)]
        loaded = reload.at("supervisor", "starting", generation=2)
        began = reload.at("supervisor", "is started", generation=2)
        self._row("systemctl reload", [(0, reload.at("systemd", "reloaded"), "line-soft", "waits for the verdict")])
        self._row(
            "supervisor 1",
            [
                (first, reload.commit, "old", "predecessor"),
                (reload.commit, reload.end, "old-soft", "leaves with its last worker"),
            ],
        )
        for index in (0, 1):
            leaves = reload.at("worker", "leaves", generation=1, index=index)
            stops = min(reload.commit, reload.at("worker", "finishes", generation=1, index=index))
            parts = [(first, stops, "old", "serves"), (stops, leaves, "old-soft", "drains")]
            self._row(f"worker {index} of generation 1", parts, half=True)
        self._row("supervisor 2", [(began, loaded, "new-soft", "loads the code"), (loaded, last, "new", "successor")])
        for index in (0, 1):
            begin = reload.at("worker", "warms up", generation=2, index=index)
            parts = [
                (begin, ready, "new-soft", "warms up"),
                (ready, serves[index], "", "waits"),
                (serves[index], last, "new", "serves"),
            ]
            self._row(f"worker {index} of generation 2", parts, half=True)
        self._row("holds the lock", [(first, free, "old", "1"), (min(serves), last, "new", "2")], half=True)
        self._row("main pid of the unit", [(first, named, "old", "1"), (named, last, "new", "2")], half=True)

    def _row(self, label: str, parts: Sequence[tuple[float, float, str, str]], *, half: bool = False) -> None:
        """A label and bars: begin, end, colour ("" for a mere line), words."""
        picture, height = self._picture, _BAR - 4 if half else _BAR
        picture.text((24, self._y + height / 2 + 4), label, size=11)
        for begin, end, colour, words in parts:
            left, right = self._x(begin), self._x(end)
            if right - left < 2:
                continue
            if colour:
                soft = colour.endswith("-soft")
                stroke = colour.removesuffix("-soft")
                picture.box(Box(left, self._y, right - left, height), fill=colour, stroke=stroke, radius=3, width=1)
                ink = "text" if soft else "page"
            else:
                picture.line((left, self._y + height / 2), (right, self._y + height / 2), colour="new", dashed=True)
                ink = "text"
            if right - left > 5.4 * len(words) + 8:
                picture.text(
                    ((left + right) / 2, self._y + height / 2 + 3.5),
                    words,
                    size=10,
                    colour=ink,
                    anchor="middle",
                    halo="" if colour else "band",
                )
        self._y += height + (6 if half else 9)

    def _draw_commit(self) -> None:
        x = self._x(self._reload.commit)
        self._picture.line((x, self._top + 26), (x, self._top + _PANEL - 44), colour="back", width=1.8)
        words = "commit: the verdict is “done”"
        self._picture.text((x + 6, self._top + 37), words, size=11, colour="back", bold=True)
        self._picture.text(
            (x - 6, self._top + 37), "until here, the old code can come back", size=10, colour="faint", anchor="end"
        )
