"""What is open before all that a service lists is known: only root may open some of what a file lists, and what a class
lists, and how it is reloaded, is known when the rights are gone. See service/claim.py.
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
    """Listeners of a process that is about to give up its rights."""

    found: list[OpenListener]  # given, stored or handed on
    opened: dict[Address, OpenListener]
    seconds: dict[
        Address, OpenListener
    ]  # beside one of those found, if the service wants that (BEFORE_COMMIT in the manual)

    @classmethod
    def of_first(cls, wanted: Sequence[WantedListener], notifier: Notifier) -> "Ahead":
        """A first generation's.

        Raises ListenError, NotPermitted.
        """
        found = taken_from_systemd()
        try:
            return cls._beside(found, wanted)
        except ListenError:
            # What is stored and not listed here may occupy the port. The class may list it, and opens it anew then.
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
        notifier.wait_for_barrier(BARRIER_SECONDS)  # until systemd's copy is closed, too
        return cls._beside(found, wanted)

    @classmethod
    def of_successor(cls, wanted: Sequence[WantedListener], facts: Iterable[object], fds: Mapping[str, int]) -> "Ahead":
        """A successor's.

        Raises ConfigError, ListenError, NotPermitted, HandoverError.
        """
        found = handed_on(facts, fds)
        see_that_none_is_in_the_way(wanted, found)
        if not any(existing.is_given for existing in found):
            see_that_all_can_be(wanted)
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
                # Only as it is spelled here: we have more rights than whoever says how it is spelled there.
                elif listener.lanes and existing.other is None and existing.address == listener.address:
                    if is_successor or existing.file is None:
                        ahead._open_second(existing, listener)
        except BaseException:
            ahead.take_back()
            raise
        return ahead

    def only_at(self, wanted: Sequence[WantedListener]) -> "Ahead":
        """The same, where nothing is done to files elsewhere than at these paths; see OpenListener.only_at."""
        paths = {listener.address.path for listener in wanted}
        return self._replace(found=[existing.only_at(paths) for existing in self.found])

    def _open_second(self, existing: OpenListener, listener: WantedListener) -> None:
        try:
            self.seconds[listener.address] = second(existing, listener)
        except (ListenError, NotPermitted):
            pass  # if the service needs it, it is told so

    def take_back(self) -> None:
        """Close what nobody wants, and remove its files."""
        for existing in (*self.opened.values(), *self.seconds.values()):
            existing.take_back()
        self.opened.clear()
        self.seconds.clear()


def check_before_start(wanted: Sequence[WantedListener]) -> None:
    """Of a first start, before it has touched anything. Raises ConfigError for two that cannot be open at a time."""
    if not given_by_units():
        see_that_all_can_be(wanted)


def see_that_all_can_be(wanted: Sequence[WantedListener]) -> None:
    """Raises ConfigError for two that cannot be open at a time."""
    for place, listener in enumerate(wanted):
        for other in wanted[:place]:
            if why := listener.why_not_beside(other):
                raise ConfigError(why)


def see_that_none_is_in_the_way(wanted: Sequence[WantedListener], found: Sequence[OpenListener]) -> None:
    """Of the ports that the old generation has until the reload is over.

    Raises ListenError.
    """
    if any(existing.is_given for existing in found):
        return  # then none is opened
    ports = [existing for existing in found if not existing.address.path]
    for listener in wanted:
        for existing in ports if not any(listener.address == existing.address for existing in ports) else ():
            if listener.is_excluded_by(existing.address, existing.shares_port):
                raise ListenError(
                    f"Cannot listen on {listener.address} (listen {listener.name!r}) by a reload: until it is over, "
                    f"the old code listens on {existing.address}, which has that port; restart the service instead."
                )


def handed_on(facts: Iterable[object], fds: Mapping[str, int]) -> list[OpenListener]:
    """What a predecessor says of its listeners, with the descriptors beside it.

    Raises HandoverError.
    """
    descriptors = [fd for name, fd in fds.items() if name.startswith(LISTENER)]
    others = iter([fd for name, fd in fds.items() if name.startswith(OTHER_LANE)])
    try:
        return [inherited(fact, fd, others) for fact, fd in zip(facts, descriptors, strict=True)]
    except (ValueError, TypeError, KeyError, StopIteration) as error:
        raise HandoverError(f"The predecessor's hand-over of its sockets is malformed: {error!r}.") from error
