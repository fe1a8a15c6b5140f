"""A program's command line, on its way under a supervisor: find, remove and add options."""

import os
import re
from collections.abc import Callable, Mapping, Sequence

from ..errors import CannotWrap
from ..input.checked import decimal
from ..input.printable import one_line
from ..settings.addresses import parse
from . import words as unit_words
from .launchers import name_of

_NAMES_OF_THIS_HOST = {"localhost": "127.0.0.1"}
_DEFAULT_MODE = 0o666  # of a UNIX socket of the supervisor; no other bits count for a socket
_REFERENCE = re.compile(r"\$\$|\$\{([A-Za-z_]\w*)\}", re.ASCII)
_WHOLE_WORD = re.compile(r"\$([A-Za-z_]\w*)", re.ASCII)


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
        at_home: bool = False,
        umask: int = 0o022,
        user: str = "",
        gunicorn_file: str = "",
    ) -> None:
        self.before, self.arguments = list(words[: program + 1]), list(words[program + 1 :])
        self.notifies = notifies  # its unit has Type=notify
        self.directory = directory  # its working directory; "" is /
        self.environment = dict(environment or {})  # escaped for a command line of a unit
        self.sees_all = sees_all  # `environment` is complete
        self.given = given  # the .socket units that pass their sockets to it
        self.listen = list(listen)  # NAME=ADDRESS, from the user
        self.stop_seconds = stop_seconds  # its time limit for a stop
        self.at_home = at_home  # its directory is its user's home, whose path is unknown here
        self.umask = umask
        self.user = user  # its unit's; "" or "root" for root
        self.gunicorn_file = gunicorn_file  # the file of ours that gunicorn may read; "" for none
        self.owner = ""  # USER or USER:GROUP that a launcher changes to
        self.has_own_path = False  # a launcher puts a virtual environment ahead of PATH
        self.own_signal = ""  # by which the program reloads itself, as it goes on to do, such as "HUP"
        self.options: dict[str, str] = {}  # of `sdsupervise run`
        self.notes: list[str] = []

    @property
    def program(self) -> str:
        """The program's name."""
        return os.path.basename(self.before[-1])

    @property
    def called(self) -> str:
        """What it runs in the end, in a note: the program's name, or that of a module or a script."""
        return name_of(self.words)

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
        words = [found[1] for word in self.arguments if (found := _WHOLE_WORD.fullmatch(word))]
        return not self.sees_all or any(name not in self.environment for name in words)

    @property
    def runs_as_root(self) -> bool:
        """Whether its unit starts it as root."""
        return self.user in ("", "root", "0")

    def note(self, sentence: str) -> None:
        """Add a note for the user."""
        self.notes.append(sentence)

    def expand(self) -> None:
        """Write out each $VARIABLE word whose options may have to change."""
        expanded: list[str] = []
        for word in self.arguments:
            found = _WHOLE_WORD.fullmatch(word)
            become = unit_words.split(self.environment.get(found[1], "")) if found else []
            if found and any(option.startswith("-") for option in become):
                self.note(f"{word} is written out as it is now; after a change of it, wrap the unit again")
                expanded += become
            else:
                expanded.append(word)
        self.arguments = expanded

    def resolved(self, text: str) -> str | None:
        """The text of one word with the present values of its variables; None if one of them is unknown."""
        if found := _WHOLE_WORD.fullmatch(text):
            values = unit_words.split(self.environment.get(found[1], ""))
            return values[0] if len(values) == 1 else None
        names = [name for name in _REFERENCE.findall(text) if name]
        if any(name not in self.environment for name in names):
            return None
        return _REFERENCE.sub(lambda found: self.environment[found[1]] if found[1] else found[0], text)

    def known(self, text: str) -> str:
        """The resolved text.

        Raises CannotWrap if a variable in it is unknown.
        """
        if (found := self.resolved(text)) is None:
            raise CannotWrap(
                f"{self.program} has {one_line(text, 200)} on its command line, and neither Environment= nor a file of "
                "EnvironmentFile= that can be read sets it; write the value instead, or give the address with --listen."
            )
        return found

    def written(self, text: str, form: Callable[[str], str]) -> str:
        """What `form` makes of a word, with the variables in it if these stand for the same, else with their values.

        Raises CannotWrap if a variable in it is unknown.
        """
        meant = form(self.known(text))
        braced = f"${{{text[1:]}}}" if _WHOLE_WORD.fullmatch(text) else text
        if not any(_REFERENCE.findall(braced)):
            return meant
        if self.resolved(braced) == meant:
            return braced
        notes = list(self.notes)
        try:
            kept = form(braced)
        except CannotWrap:
            kept = ""
        self.notes = notes
        if kept and self.resolved(kept) == meant:
            return kept
        self.note_written(text, meant)
        return meant

    def note_written(self, text: str, meant: str) -> None:
        """Say that a word with variables is written out."""
        self.note(f"{text} is written out as {meant}, as it is now; after a change of it, wrap the unit again")

    def number(self, text: str, most: int) -> int | None:
        """A word as a number, with the present values of its variables; None if it is none."""
        return decimal(self.resolved(text) or "", most)

    def path(self, text: str) -> str:
        """The absolute path for a path of the command line.

        Raises CannotWrap if its directory is unknown.
        """
        if self.at_home and not self.directory and not text.startswith("/"):
            raise CannotWrap(
                f"{self.program} has the path {one_line(text, 200)} below WorkingDirectory=~; write it in full."
            )
        joined = os.path.join(self.directory or "/", text)
        return joined if ".." in joined.split("/") else os.path.normpath(joined)

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

        A UNIX socket is one from socket_file. Raises CannotWrap for an address with a comma: for --listen, options
        follow a comma.
        """
        if not self.listen:
            for address in addresses:
                if "," in address and not address.startswith("/"):  # socket_file has checked a path
                    raise self._has_comma(address)
            names = ["http", *(f"http{number}" for number in range(2, len(addresses) + 1))]
            self.listen = [f"{name}={address}" for name, address in zip(names, addresses, strict=False)]
            if option:
                self.note(f"{option} became --listen: the supervisor keeps the socket, so that a reload refuses nobody")
        if lanes:
            self.listen = [
                entry if entry.partition("=")[2].startswith(("/", "@")) or ",lanes" in entry else f"{entry},lanes"
                for entry in self.listen
            ]

    def socket_file(self, path: str, mode: int, owner: str = "") -> str:
        """A UNIX socket for --listen, whose file is for the same users as the program's own would be.

        Raises CannotWrap for a path with a comma, after which --listen has options.
        """
        absolute = self.written(path, self.path)
        if "," in self.known(absolute):
            raise self._has_comma(absolute)
        user, _, group = (owner or self.owner).partition(":") if self.runs_as_root else ("", "", "")
        limits = [] if mode & 0o666 == _DEFAULT_MODE else [f",mode={mode & 0o777:04o}"]
        named = [f",{key}={value}" for key, value in (("user", user), ("group", group)) if value]
        if any("," in value[1:] for value in named):
            raise CannotWrap(f"{self.program} has a user or group with a comma in it; change it.")
        return "".join([absolute, *limits, *named])

    def _has_comma(self, address: str) -> CannotWrap:
        return CannotWrap(
            f"{self.program} listens on {one_line(address, 200)}, and an address cannot have a comma in it; change it, "
            "or give the address with --listen http=ADDRESS."
        )

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
        if "%" not in address and "${" not in address:  # systemd replaces those, and the result is unknown here
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
