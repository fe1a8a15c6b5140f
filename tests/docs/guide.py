"""The guide, packaging/doc/guide.md, and the manual pages' examples: `python -m tests.docs.guide` runs their sessions
and writes down what they print, and what of the guide is made from the takeover table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tests.docs import pages
from tests.docs.documents import CLONE, put, with_sessions
from tests.docs.pages import processes, states
from tests.load.ground import shown
from tests.support.machine import Machine
from tests.support.units import install_gunicorn_ready

GUIDE = CLONE / "packaging" / "doc" / "guide.md"

MADE: Mapping[str, Callable[[], str]] = {
    "example": lambda: f"```python\n{(CLONE / 'units/example/counter.py').read_text()}```",
    "walk-exclusive": lambda: states.walk("exclusive"),
    "processes": processes.table,
}


# A bare Debian has none. The guide asks by it as its readers would.
CURL = """\
#!/usr/bin/python3
import http.client, sys
words = sys.argv[1:]
place = words[-1].removeprefix("http://").rstrip("/")
ports = range(*map(int, words[words.index("--local-port") + 1].split("-"))) if "--local-port" in words else [0]
for port in ports:
    connection = http.client.HTTPConnection(place, timeout=20, source_address=("", port))
    try:
        connection.request("GET", "/")
        break
    except OSError:
        if port == ports[-1]:
            raise
answer = connection.getresponse()
if "-fsS" in words and answer.status >= 400:
    print(f"curl: (22) The requested URL returned error: {answer.status}", file=sys.stderr)
    sys.exit(22)
print(answer.read().decode(), end="")
"""
BROKER = ("systemd-run", "--unit=broker", "--property=Type=notify", "--collect", "redis-server", "--save", "")


@contextmanager
def machine_of_an_operator() -> Iterator[Machine]:
    """Where sdsupervise is installed; gunicorn and celery, in a virtual environment; and a broker runs."""
    with Machine(shown=shown()) as machine:
        install_gunicorn_ready(machine)
        machine.write("/usr/local/bin/curl", CURL, mode=0o755)
        machine.run(*BROKER, "--supervised", "systemd")
        yield machine


def with_made(text: str) -> str:
    """The guide as its parts made from elsewhere make it; sessions as they are."""
    for name, make in MADE.items():
        text = put(text, name, make())
    return text


def main() -> int:
    """Write all of them anew; 0."""
    with machine_of_an_operator() as machine:
        GUIDE.write_text(with_sessions(with_made(GUIDE.read_text()), machine))
    with Machine() as machine:
        for page in sorted(pages.SOURCES.glob("*.rst")):
            page.write_text(with_sessions(page.read_text(), machine))
    return 0


if __name__ == "__main__":
    sys.exit(main())
