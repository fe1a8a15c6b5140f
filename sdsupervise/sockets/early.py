"""Sockets that are open before all listeners of a service are known.

Only root may open some of the sockets that a file lists. What a class lists, and how it reloads, is known only after
the rights are dropped. See service/claim.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..errors import ConfigError, HandoverError, ListenError, NotPermitted
from ..settings.addresses import Address
from ..systemd.notify import Notifier
from .given_names import given_by_units
from .open_listener import OpenListener, inherited, opened, second, taken_from_systemd
from .opening import WantedListener
from .passed_fds import LISTENER, OTHER_LANE

BARRIER_SECONDS = 5.0


class Ahead(NamedTuple):
    """Listeners of a process that is about to drop its rights."""

    found: list[OpenListener]  # given by systemd, stored, or handed over
    opened: dict[Address, OpenListener]
    seconds: dict[
        Address, OpenListener
    ]  # beside a found one, if the service wants that (BEFORE_COMMIT in sdsupervise.toml(5))

    @classmethod
    def of_first(cls, wanted: Sequence[WantedListener], notifier: Notifier) -> "Ahead":
        """Return the listeners of a first generation.

        Raises ListenError, NotPermitted.
        """
        found = taken_from_systemd()
        try:
            return cls._beside(found, wanted)
        except ListenError:
            # A stored socket that is not listed here may occupy the port. The class may list it, and then opens it
            # anew.
            listed = {listener.address for listener in wanted}
            stored = [
                existing
                for existing in found
                if not existing.is_given and existing.file is None and existing.address not in listed
            ]
            if not stored:
                raise
        for existing in stored:
            found.remove(existing)
            existing.close()
            existing.forget(notifier)
        notifier.wait_for_barrier(BARRIER_SECONDS)  # until systemd has closed its copy too
        return cls._beside(found, wanted)

    @classmethod
    def of_successor(cls, wanted: Sequence[WantedListener], facts: Iterable[object], fds: Mapping[str, int]) -> "Ahead":
        """Return the listeners of a successor.

        Raises ConfigError, ListenError, NotPermitted, HandoverError.
        """
        found = handed_over(facts, fds)
        check_ports_are_free(wanted, found)
        if not any(existing.is_given for existing in found):
            check_compatible(wanted)
        return cls._beside(found, wanted, is_successor=True)

    @classmethod
    def _beside(
        cls, found: list[OpenListener], wanted: Sequence[WantedListener], *, is_successor: bool = False
    ) -> "Ahead":
        there = [existing for existing in found if existing.can_be_reached]
        ahead = cls(found, {}, {})
        try:
            for listener in wanted if not any(existing.is_given for existing in found) else ():
                existing = next(
                    (existing for existing in there if listener.address.is_one_with(existing.address)), None
                )
                if existing is None:
                    ahead.opened[listener.address] = opened(listener)
                # Only if the spelling is the same: we have more rights than the process that has chosen the other
                # spelling.
                elif listener.lanes and existing.other is None and existing.address == listener.address:
                    if is_successor or existing.file is None:
                        ahead._open_second(existing, listener)
        except BaseException:
            ahead.take_back()
            raise
        return ahead

    def only_at(self, wanted: Sequence[WantedListener]) -> "Ahead":
        """Return the same, but leave files at other paths untouched; see OpenListener.only_at."""
        paths = {listener.address.path for listener in wanted}
        return self._replace(found=[existing.only_at(paths) for existing in self.found])

    def _open_second(self, existing: OpenListener, listener: WantedListener) -> None:
        try:
            self.seconds[listener.address] = second(existing, listener)
        except (ListenError, NotPermitted):
            pass  # if the service needs it, a later check says so

    def take_back(self) -> None:
        """Close the listeners that were not used, and remove their files."""
        for existing in (*self.opened.values(), *self.seconds.values()):
            existing.take_back()
        self.opened.clear()
        self.seconds.clear()


def check_before_start(wanted: Sequence[WantedListener]) -> None:
    """Before a first start changes anything, check its listeners. Raises ConfigError for two that exclude each
    other."""
    if not given_by_units():
        check_compatible(wanted)


def check_compatible(wanted: Sequence[WantedListener]) -> None:
    """Check that all can be open at the same time. Raises ConfigError for two that exclude each other."""
    for place, listener in enumerate(wanted):
        for other in wanted[:place]:
            if why := listener.why_not_beside(other):
                raise ConfigError(why)


def check_ports_are_free(wanted: Sequence[WantedListener], found: Sequence[OpenListener]) -> None:
    """Check the ports that the old generation holds until the reload is over.

    Raises ListenError.
    """
    if any(existing.is_given for existing in found):
        return  # then no listener is opened
    ports = [existing for existing in found if not existing.address.path]
    for listener in wanted:
        for existing in ports if not any(listener.address == existing.address for existing in ports) else ():
            if listener.is_excluded_by(existing.address, existing.shares_port):
                raise ListenError(
                    f"Cannot listen on {listener.address} (listen {listener.name!r}) in a reload: the old code "
                    f"listens on {existing.address} until the reload ends, and that address has the same port; "
                    f"restart the service instead."
                )


def handed_over(facts: Iterable[object], fds: Mapping[str, int]) -> list[OpenListener]:
    """Return the predecessor's listeners, from its description of them and the descriptors that came with it.

    Raises HandoverError.
    """
    descriptors = [fd for name, fd in fds.items() if name.startswith(LISTENER)]
    others = iter([fd for name, fd in fds.items() if name.startswith(OTHER_LANE)])
    try:
        return [inherited(fact, fd, others) for fact, fd in zip(facts, descriptors, strict=True)]
    except (ValueError, TypeError, KeyError, StopIteration) as error:
        raise HandoverError(f"The predecessor's hand-over of its sockets is malformed: {error!r}.") from error
