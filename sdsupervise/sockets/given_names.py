"""The names under which a service knows the sockets of a .socket unit."""

from collections.abc import Sequence

from ..errors import ConfigError
from ..systemd import listen_fds
from .open_listener import STORED


def given_by_units() -> list[str]:
    """Return systemd's names of the sockets from .socket units. Nothing is taken yet."""
    return [label for label in listen_fds.announced() if not label.startswith(STORED)]


def expected_names(configured: Sequence[str]) -> list[str]:
    """Return the names that a first start will give its listeners. Nothing is opened or taken yet.

    Raises ConfigError.
    """
    given = given_by_units()
    return list(agreed(configured, given)) if given else list(configured)


def agreed(configured: Sequence[str], given: Sequence[str]) -> dict[str, int]:
    """Return the service's names for systemd's sockets, each with its index in `given`.

    A .socket unit without FileDescriptorName= gives its sockets its own name: http.socket is http. One such unit is
    enough for a service that lists one name. A unit may have several sockets, all with one name: http, http.2, http.3.
    Raises ConfigError.
    """
    bases = [label if label in configured else label.removesuffix(".socket") for label in given]
    said_no_name = {label for label in given if label == listen_fds.NAMELESS or label.endswith(".socket")}
    if len(configured) == len(set(bases)) == len(said_no_name) == 1:
        bases = [configured[0] for _ in bases]
    if configured and set(bases) != set(configured):
        raise ConfigError(
            f"systemd passes the sockets {', '.join(sorted(set(bases)))}, but listen has "
            f"{', '.join(sorted(configured))}: use the same names in FileDescriptorName= of the .socket units, or "
            f"leave listen out."
        )
    named: dict[str, int] = {}
    for base in configured or dict.fromkeys(bases):
        places = [place for place, other in enumerate(bases) if other == base]
        named |= {base if not number else f"{base}.{number + 1}": place for number, place in enumerate(places)}
    return named
