"""The protocol of the control socket: Varlink, JSON objects that each end with a NUL byte
(https://varlink.org/Method-Call).

This turns bytes into messages, without a socket. The varlink library is not in Debian 12.
"""

import json
from collections.abc import Mapping
from typing import Any

from ..errors import ProtocolError
from ..input import checked

INTERFACE = "io.sdsupervise"
_SERVICE = "org.varlink.service"  # every Varlink service has this interface
METHOD_NOT_FOUND = f"{_SERVICE}.MethodNotFound"
INTERFACE_NOT_FOUND = f"{_SERVICE}.InterfaceNotFound"
INVALID_PARAMETER = f"{_SERVICE}.InvalidParameter"
PERMISSION_DENIED = f"{_SERVICE}.PermissionDenied"
EXPECTED_MORE = f"{_SERVICE}.ExpectedMore"
INTERFACES = (INTERFACE, _SERVICE)

# The methods, and the names and types of their parameters.
METHODS: Mapping[str, Mapping[str, type]] = {
    f"{INTERFACE}.Status": {},
    f"{INTERFACE}.Code": {},
    f"{INTERFACE}.Reload": {"exec_reload": bool, "spawns": bool, "why_not": str},
    f"{INTERFACE}.Follow": {},
    f"{INTERFACE}.Scale": {"workers": int, "by": int},
    f"{_SERVICE}.GetInfo": {},
    f"{_SERVICE}.GetInterfaceDescription": {"interface": str},
}

MAX_MESSAGE_BYTES = 1024 * 1024  # of an answer
MAX_CALL_BYTES = 64 * 1024
_MOST_CHARACTERS = 300  # of a name

Object = dict[str, object]

_TYPES: Mapping[type, checked.Reader] = {
    bool: checked.flag,
    int: checked.whole(-(2**31), 2**31 - 1),
    str: checked.text(),
}
_CALL = checked.record(
    {},
    {
        "method": checked.text(_MOST_CHARACTERS),
        "parameters": checked.any_object,
        "more": checked.flag,
        "oneway": checked.flag,
    },
)


def read_call(text: bytes) -> dict[str, Any]:
    """Return the method ("" if it is missing), parameters and flags of a call. The parameters are not checked yet.

    Raises ProtocolError for what is no JSON object, checked.Unfit for an object that is no call.
    """
    return {"method": "", **_CALL(_parse(text), "")}


def wrong_parameter(method: str, parameters: Mapping[str, object]) -> str:
    """Return the name of a parameter that has a wrong type or is out of range, or "" if all are right.

    Unknown parameters are ignored: a client of a newer release may send more, and `reload` must work during an upgrade
    of the package.
    """
    for name, wanted in METHODS[method].items():
        try:
            if parameters.get(name) is not None:
                _TYPES[wanted](parameters[name], name)
        except checked.Unfit:
            return name
    return ""


def encode(message: Mapping[str, object]) -> bytes:
    """Return a message as bytes. They are ASCII, because half a surrogate pair, which stands for a byte of a path, has
    no UTF-8."""
    return json.dumps(message).encode() + b"\0"


class MessageReader:
    """Cuts a stream of answers into messages, whatever pieces arrive."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Object]:
        """Return the messages that this data completes.

        Raises ProtocolError for what is no JSON object, or is longer than MAX_MESSAGE_BYTES.
        """
        found = []
        *whole, rest = data.split(b"\0")
        for text in whole:
            found.append(_parse(bytes(self._rest + text)))
            self._rest.clear()
        self._rest += rest
        if len(self._rest) > MAX_MESSAGE_BYTES:
            raise ProtocolError(f"A message of more than {MAX_MESSAGE_BYTES} bytes arrived on the control socket.")
        return found


def _parse(text: bytes) -> Object:
    try:
        message = checked.parse(text)
    except checked.Unfit as error:
        raise ProtocolError(f"The control socket received {text[:60]!r}: {error}.") from None
    if not isinstance(message, dict):
        raise ProtocolError(f"The control socket received {text[:60]!r}, which is not a JSON object.")
    return message
