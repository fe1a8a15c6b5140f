"""The setting `listen` and the addresses in it: what they mean, and a sentence for what they do not."""

from __future__ import annotations

import os
import re
import socket

import pytest

from sdsupervise.errors import ConfigError, ExitStatus
from sdsupervise.settings import listen
from sdsupervise.settings.addresses import Address, address_of, parse
from sdsupervise.settings.listen import WITHOUT_LIMIT, Listen
from sdsupervise.settings.settings import KINDS, check_settings
from sdsupervise.sockets.opening import WantedListener


def test_a_mapping() -> None:
    """Names to addresses, or to mappings with options; a port may be a number."""
    value = {
        "http": "127.0.0.1:8000",
        "port": 8000,
        "admin": {"address": "/run/a", "mode": 0o660, "user": "u", "group": 7, "backlog": 5},
        "shared": {"address": "8001", "reuse_port": True},
    }
    assert check_settings("Service", {"listen": value}).listen == (
        Listen("http", "127.0.0.1:8000"),
        Listen("port", "8000"),
        Listen("admin", "/run/a", 5, 0o660, "u", "7"),
        Listen("shared", "8001", WITHOUT_LIMIT, None, "", "", True),
    )
    assert check_settings("Service", {"listen": {}}).listen == ()


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("http=127.0.0.1:8000", Listen("http", "127.0.0.1:8000")),
        ("a=/p=q", Listen("a", "/p=q")),
        (
            "admin=/run/a,mode=0660,user=u,group=g,backlog=128",
            Listen("admin", "/run/a", 128, 0o660, "u", "g"),
        ),
        ("http=80,reuse-port", Listen("http", "80", reuse_port=True)),
    ],
)
def test_on_a_command_line(text: str, meaning: Listen) -> None:
    """An option's text means what the mapping would."""
    assert check_settings("Service", {"listen": KINDS["listen"].read(text)}).listen == (meaning,)


NAME_RULE = "it must be ASCII without ':' and control characters"


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("127.0.0.1:80", "listen is '127.0.0.1:80'; it must be a mapping"),
        (["80"], r"listen is \['80'\]; it must be a mapping"),
        ({"": "80"}, f"listen has the name ''; {NAME_RULE}"),
        ({"a:b": "80"}, f"listen has the name 'a:b'; {NAME_RULE}"),
        ({"ä": "80"}, f"listen has the name 'ä'; {NAME_RULE}"),
        ({"a\n": "80"}, NAME_RULE),
        ({"n" * 201: "80"}, "200 characters at most"),
        ({7: "80"}, f"listen has the name 7; {NAME_RULE}"),
        ({f"n{port}": port for port in range(1, 202)}, "listen has 201 sockets; 200 at most"),
        (listen.read("http"), "listen 'http' has no address; write one such as"),
        (listen.read("http="), "listen 'http' has no address"),
        ({"http": {}}, "listen 'http' has no address"),
        ({"http": True}, "listen 'http' has no address"),
        (listen.read("http=80,backlog=many"), "listen 'http': backlog is 'many'; it must be a whole number from 1"),
        (listen.read("http=80,backlog"), "listen 'http': backlog is True"),
        (listen.read("http=80,backlog=0"), "listen 'http': backlog is 0"),
        (listen.read("http=80,baklog=1"), "listen 'http' has an option 'baklog', which does not exist; known are back"),
        (listen.read("a=/x,mode=0999"), "listen 'a': mode is '0999'; it must be octal"),
        ({"a": {"address": "/x", "mode": 0o1777}}, "listen 'a': mode is 1023; it must be octal"),
        (listen.read("a=/x,user="), "listen 'a': '' is not the name of a user or group"),
        (listen.read("a=80,reuse-port=yes"), "listen 'a': reuse_port is 'yes'; it must be True or False"),
        (listen.read("a=80,mode=0600"), "listen 'a' has a mode, user or group, but 80 is no path"),
        (listen.read("a=@x,group=adm"), "listen 'a' has a mode, user or group, but @x is no path"),
    ],
)
def test_wrong_entries(value: object, sentence: str) -> None:
    """What is wrong is said in one sentence that names the entry; exit status 78."""
    with pytest.raises(ConfigError, match=f"^Service: .*{sentence}") as raised:
        check_settings("Service", {"listen": value})
    text = str(raised.value)
    assert text.endswith(".") and "\n" not in text
    assert raised.value.exit_status == ExitStatus.CONFIG


@pytest.mark.parametrize(
    ("text", "family", "name", "shown"),
    [
        ("8000", socket.AF_INET6, ("::", 8000, 0, 0), "[::]:8000"),
        ("127.0.0.1:80", socket.AF_INET, ("127.0.0.1", 80), "127.0.0.1:80"),
        ("[::1]:65535", socket.AF_INET6, ("::1", 65535, 0, 0), "[::1]:65535"),
        ("[0:0::0:1]:1", socket.AF_INET6, ("::1", 1, 0, 0), "[::1]:1"),
        ("[fe80::1%lo]:80", socket.AF_INET6, ("fe80::1", 80, 0, 1), "[fe80::1%1]:80"),
        ("[fe80::1%7]:80", socket.AF_INET6, ("fe80::1", 80, 0, 7), "[fe80::1%7]:80"),
        ("/run/app.sock", socket.AF_UNIX, "/run/app.sock", "/run/app.sock"),
        ("@app", socket.AF_UNIX, b"\0app", "@app"),
    ],
)
def test_addresses(text: str, family: int, name: object, shown: str) -> None:
    """systemd's notation, and how the kernel will tell it."""
    address = parse(text)
    assert (address.family, address.name, str(address)) == (family, name, shown)
    assert address.path == (text if text.startswith("/") else "")


@pytest.mark.parametrize("text", ["127.0.0.77:{}", "[::1]:{}", "@sdsupervise-test-{}"])
def test_the_kernel_agrees(text: str) -> None:
    """An address is equal to that of the socket bound to it: by that a listener is recognised."""
    address = parse(text.format(30000 + os.getpid() % 2000))  # no other test uses these
    with socket.socket(address.family) as listener:
        listener.bind(address.name)
        assert address_of(listener) == address == Address(listener.family, listener.getsockname())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("http", "is not an address; write a port, 127.0.0.1:8000"),
        ("localhost:80", "is not a numeric address; write a port"),
        ("1.2.3:80", "is not a numeric address"),
        ("::1:80", "is not a numeric address"),
        (":80", "is not a numeric address"),
        ("[::g]:80", "has no IPv6 address of this host in its brackets"),
        ("[127.0.0.1]:80", "has no IPv6 address of this host in its brackets"),
        ("[fe80::1%nosuch]:80", "has no IPv6 address of this host in its brackets"),
        ("127.0.0.1:", "has no port from 1 to 65535 at its end"),
        ("127.0.0.1:http", "has no port from 1 to 65535"),
        ("0", "has no port from 1 to 65535"),
        ("65536", "has no port from 1 to 65535"),
        ("[::1]", "has no IPv6|is not a numeric address"),
        ("relative.sock", "is not an address"),
        ("/" + "x" * 107, "is too long for a UNIX socket: 108 bytes; the limit is 107"),
        ("@", "names no socket"),
        ("/", "names no socket"),
        ("/a\0b", "names no socket"),
    ],
)
def test_wrong_addresses(text: str, sentence: str) -> None:
    """What is not an address is said in one sentence that names entry and address; exit status 78."""
    with pytest.raises(ConfigError, match=f"^listen 'x': {re.escape(repr(text))} ({sentence}).*\\.$"):
        WantedListener.of(Listen("x", text), None, None)


@pytest.mark.parametrize("option", ["user", "group"])
def test_unknown_owner(option: str) -> None:
    """A user or group that nobody knows is one sentence."""
    (entry,) = listen.check({"x": {"address": "/run/x", option: "nobody-has-this-name"}})
    with pytest.raises(ConfigError, match=f"^listen 'x': there is no {option} 'nobody-has-this-name' on this host"):
        WantedListener.of(entry, None, None)
