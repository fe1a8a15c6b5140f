"""A program's command line, on its way under a supervisor: find, remove and add options."""

import os
from collections.abc import Mapping, Sequence

from ..errors import CannotWrap
from ..input.printable import one_line
from ..settings.addresses import parse

_NAMES_OF_THIS_HOST = {"localhost": "127.0.0.1"}
_GIVEN_BY_SYSTEMD = ("$", "%")  # the first character of a variable or specifier, whose value is unknown here


class CommandLine:
    """One command line, and the notes about its changes."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        program: int = 0,
        notifies: bool = False,
        directory: str = "",
        environment: Mapping[str, str] | None = None,
        sees_all: bool = True,
        given: Sequence[str] = (),
        listen: Sequence[str] = (),
        stop_seconds: float = 90.0,
    ) -> None:
        self.before, self.arguments = list(words[: program + 1]), list(words[program + 1 :])
        self.notifies = notifies  # its unit has Type=notify
        self.directory = directory  # its working directory; "" is /
        self.environment = environment or {}
        self.sees_all = sees_all  # `environment` is complete
        self.given = given  # the .socket units that pass their sockets to it
        self.listen = list(listen)  # NAME=ADDRESS, from the user
        self.stop_seconds = stop_seconds  # its time limit for a stop
        self.options: dict[str, str] = {}  # of `sdsupervise run`
        self.notes: list[str] = []

    @property
    def program(self) -> str:
        """The program's name."""
        return os.path.basename(self.before[-1])

    @property
    def words(self) -> list[str]:
        """The whole command line in its present form."""
        return [*self.before, *self.arguments]

    @property
    def run_options(self) -> list[str]:
        """The options of `sdsupervise run` for this command line."""
        listens = [word for entry in self.listen for word in ("--listen", entry)]
        options = [word for name, value in self.options.items() for word in (f"--{name}", value) if word]
        return [*options[:2], *(["--directory", self.directory] if self.directory else []), *listens, *options[2:]]

    @property
    def has_hidden_words(self) -> bool:
        """Whether it may have options that are not visible here; a $VARIABLE word can become any number of words."""
        words = (word for word in self.arguments if word.startswith("$"))
        return not self.sees_all or any(not word.startswith(("$$", "${")) for word in words)

    def note(self, sentence: str) -> None:
        """Add a note for the user."""
        self.notes.append(sentence)

    def values(self, *names: str) -> list[str]:
        """The values of an option, by all its names: --bind X, --bind=X, -b X, -bX."""
        return [value for _, _, value in self._found(names)]

    def take(self, *names: str) -> list[str]:
        """The values of an option, which is removed; see values."""
        found = self._found(names)
        for start, end, _ in reversed(found):
            del self.arguments[start:end]
        return [value for *_, value in found]

    def take_flag(self, *names: str) -> bool:
        """Whether an option without a value is there; it is removed."""
        there = any(word in names for word in self.arguments)
        self.arguments = [word for word in self.arguments if word not in names]
        return there

    def _found(self, names: Sequence[str]) -> list[tuple[int, int, str]]:
        found, place = [], 0
        while place < len(self.arguments):
            word, end = self.arguments[place], place + 1
            for name in names:
                if word == name and end < len(self.arguments):
                    found.append((place, end + 1, self.arguments[end]))
                    end += 1
                elif word.startswith(f"{name}=" if name.startswith("--") else name) and word != name:
                    found.append((place, end, word[len(name) :].removeprefix("=")))
                else:
                    continue
                break
            place = end
        return found

    def listen_on(self, addresses: Sequence[str], option: str, *, lanes: bool = False) -> None:
        """Let the supervisor open these sockets, named http, http2, ...; sockets from the user take precedence.

        Raises CannotWrap for an address with a comma: for --listen, options follow a comma.
        """
        if not self.listen:
            for address in addresses:
                if "," in address:
                    raise CannotWrap(
                        f"{self.program} listens on {one_line(address, 200)}, and an address cannot have a comma in "
                        "it; change it, or tell where with --listen http=ADDRESS."
                    )
            names = ["http", *(f"http{number}" for number in range(2, len(addresses) + 1))]
            self.listen = [f"{name}={address}" for name, address in zip(names, addresses, strict=False)]
            if option:
                self.note(f"{option} became --listen: the supervisor keeps the socket, so that a reload refuses nobody")
        if lanes:
            self.listen = [
                entry if entry.partition("=")[2].startswith(("/", "@")) or ",lanes" in entry else f"{entry},lanes"
                for entry in self.listen
            ]

    @property
    def names(self) -> list[str]:
        """The names of its sockets."""
        return [entry.partition("=")[0] for entry in self.listen]

    def has_lanes(self) -> bool:
        """Whether every socket has two lanes."""
        return all(",lanes" in entry for entry in self.listen)

    def address(self, host: str, port: str) -> str:
        """The address of a host and a port, in the form of --listen.

        Raises CannotWrap for a host name that only a resolver knows.
        """
        host = host.strip("[]") or "0.0.0.0"
        if host in _NAMES_OF_THIS_HOST:
            self.note(f"{host} became {_NAMES_OF_THIS_HOST[host]}: a listener's address is a number")
            host = _NAMES_OF_THIS_HOST[host]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if not any(letter in address for letter in _GIVEN_BY_SYSTEMD):
            try:
                parse(address)
            except ValueError as error:
                raise CannotWrap(f"{self.program} listens on {address}, which {error}.") from None
        return address

    def must_know_address(self) -> CannotWrap:
        """The error for a program whose address is needed, and is not visible here."""
        return CannotWrap(
            f"Cannot see where {self.program} listens, which a variable or a file may say: "
            "tell it with --listen http=ADDRESS."
        )
