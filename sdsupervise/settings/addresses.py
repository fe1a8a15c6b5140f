"""Addresses of stream sockets in systemd's notation: systemd.socket(5), ListenStream=.

8000 (a port alone means every address of this host), 127.0.0.1:8000, [::1]:8000, [fe80::1%eth0]:8000, /path, @abstract.
"""

import os
from typing import NamedTuple

from ..linux.unpatched import socket

NEXT = ".next"  # PATH.next is the socket of the next generation before it serves
_MAX_PATH_BYTES = 107  # the size of sockaddr_un.sun_path, 108, without the zero at its end; unix(7)
_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:127.0.0.1 is the IPv4 address 127.0.0.1
_NOTATIONS = "a port, 127.0.0.1:8000, [::1]:8000, /path or @abstract"


class Address(NamedTuple):
    """The address of a stream socket: AF_INET, AF_INET6 or AF_UNIX."""

    family: int
    name: str | bytes | tuple[str, int] | tuple[str, int, int, int]  # as bind() takes it and getsockname() returns it

    @property
    def path(self) -> str:
        """The path of a UNIX socket that has a file, else ""."""
        return self.name if self.family == socket.AF_UNIX and isinstance(self.name, str) else ""

    def is_one_with(self, other: "Address") -> bool:
        """Return whether both name the same socket. One socket may have several spellings of its path."""
        return self == other or bool(self.path and other.path and _real(self.path) == _real(other.path))

    def excludes(self, other: "Address") -> bool:
        """Return whether only one of the two can be listened on at a time.

        This is so if they are the same, or if one of them takes the same port on all addresses.
        """
        if self.is_one_with(other):
            return True
        if not isinstance(self.name, tuple) or not isinstance(other.name, tuple) or self.name[1] != other.name[1]:
            return False
        (families, host), (other_families, other_host) = _reach(self.name), _reach(other.name)
        return bool(families & other_families) and (host == other_host or "" in (host, other_host))

    def __str__(self) -> str:
        match self.name:
            case (str(host), int(port)):
                return f"{host}:{port}"
            case (str(host), int(port), _, int(scope)):
                return f"[{host}%{scope}]:{port}" if scope else f"[{host}]:{port}"
            case bytes(abstract):
                return f"@{abstract[1:].decode(errors='backslashreplace')}"
            case name:
                return str(name)


def _reach(name: tuple[str, int] | tuple[str, int, int, int]) -> tuple[set[int], str]:
    """Return what a socket's port covers: the address families, and the host, "" for all hosts."""
    if len(name) == 2:
        return {socket.AF_INET}, "" if name[0] == "0.0.0.0" else name[0]
    packed = socket.inet_pton(socket.AF_INET6, name[0])
    if packed.startswith(_MAPPED):
        host = socket.inet_ntop(socket.AF_INET, packed[len(_MAPPED) :])
        return {socket.AF_INET}, "" if host == "0.0.0.0" else host
    if any(packed):
        return {socket.AF_INET6}, f"{name[0]}%{name[3]}"
    return {socket.AF_INET6} if _is_v6_only() else {socket.AF_INET6, socket.AF_INET}, ""


def _is_v6_only() -> bool:
    """Return whether [::] excludes IPv4 clients: net.ipv6.bindv6only, ipv6(7). By default it does not."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            return bool(probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
    except OSError:
        return True


def _real(path: str) -> str:
    """Return the path with its directory resolved. The name itself stays, even if it is a symbolic link."""
    directory, name = os.path.split(path)
    return os.path.join(os.path.realpath(directory), name)


def address_of(listener: socket.socket) -> Address:
    """Return the address that a socket is bound to."""
    return Address(listener.family, listener.getsockname())


def why_too_long(path: str) -> str:
    """Return why the path is too long for a UNIX socket, as the end of a sentence; "" if it fits.

    bind() and connect() in Python give no error number for a path that is too long.
    """
    length = len(os.fsencode(path))
    if length <= _MAX_PATH_BYTES:
        return ""
    return f"is too long for a UNIX socket: {length} bytes; the limit is {_MAX_PATH_BYTES}"


def parse(text: str) -> Address:
    """Return the address that a text means.

    Raises ValueError, whose text is the end of a sentence.
    """
    if text.startswith("/"):
        if text.endswith(NEXT):
            raise ValueError(f"ends in {NEXT}, which stands for the socket of the next generation")
        return _unix(text, os.fsencode(text))
    if text.startswith("@"):
        return _unix(b"\0" + os.fsencode(text[1:]), os.fsencode(text))
    if _is_decimal(text):
        return _everywhere(_port(text))
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f"is not an address; write {_NOTATIONS}")
    if host.startswith("[") and host.endswith("]"):
        return Address(socket.AF_INET6, _v6(host[1:-1], _port(port)))
    try:
        socket.inet_pton(socket.AF_INET, host)
    except OSError:
        raise ValueError(f"is not a numeric address; write {_NOTATIONS}") from None
    return Address(socket.AF_INET, (host, _port(port)))


def _unix(name: str | bytes, spelled: bytes) -> Address:
    if len(spelled) < 2 or b"\0" in spelled:
        raise ValueError("names no socket; write a path such as /run/app/http.sock")
    if too_long := why_too_long(os.fsdecode(spelled)):
        raise ValueError(too_long)
    return Address(socket.AF_UNIX, name)


def has_room_for_next(path: str) -> bool:
    """Return whether the path of the next generation's socket, PATH.next, fits into a UNIX address."""
    return len(os.fsencode(path + NEXT)) <= _MAX_PATH_BYTES


def _everywhere(port: int) -> Address:
    """Return every address of this host, as systemd does: IPv6 with IPv4, or IPv4 alone where IPv6 is not available."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError:
        return Address(socket.AF_INET, ("0.0.0.0", port))
    return Address(socket.AF_INET6, ("::", port, 0, 0))


def _v6(host: str, port: int) -> tuple[str, int, int, int]:
    bare, _, zone = host.partition("%")
    try:
        packed = socket.inet_pton(socket.AF_INET6, bare)
        scope = 0 if not zone else int(zone) if _is_decimal(zone) else socket.if_nametoindex(zone)
    except OSError:
        raise ValueError(f"has no IPv6 address of this host in its brackets; write {_NOTATIONS}") from None
    return socket.inet_ntop(socket.AF_INET6, packed), port, 0, scope


def _port(text: str) -> int:
    if not _is_decimal(text) or not 1 <= int(text) <= 65535:
        raise ValueError("has no port from 1 to 65535 at its end")
    return int(text)


def _is_decimal(text: str) -> bool:
    return text.isascii() and text.isdigit()
