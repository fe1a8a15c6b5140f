"""The application that gunicorn serves: it answers with the moment it was imported, which tells old code from new."""

import time
from collections.abc import Callable, Mapping

_ANSWER = b"%d\n" % time.monotonic_ns()


def application(_request: Mapping[str, object], begin: Callable[[str, list[tuple[str, str]]], object]) -> list[bytes]:
    """Answer."""
    begin("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(_ANSWER)))])
    return [_ANSWER]
