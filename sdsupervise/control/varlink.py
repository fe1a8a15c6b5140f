"""The language of the control socket: Varlink, JSON objects each ended by a NUL byte (https://varlink.org/Method-Call).

Bytes in, messages out: nothing here knows a socket. The varlink library is not in Debian 12.
"""

import json
from collections.abc import Mapping
from typing import Any

from ..errors import ProtocolError
from ..input import checked

INTERFACE = "io.sdsupervise"
_SERVICE = "org.varlink.service"  # what every service of this language understands
METHOD_NOT_FOUND = f"{_SERVICE}.MethodNotFound"
INTERFACE_NOT_FOUND = f"{_SERVICE}.InterfaceNotFound"
INVALID_PARAMETER = f"{_SERVICE}.InvalidParameter"
PERMISSION_DENIED = f"{_SERVICE}.PermissionDenied"
EXPECTED_MORE = f"{_SERVICE}.ExpectedMore"
INTERFACES = (INTERFACE, _SERVICE)

# The methods, and the parameters each may be given with their types.
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
    """The method ("" where none is said), parameters, and flags of a call; its parameters are not checked yet.

    Raises ProtocolError for what is no JSON object, checked.Unfit for one that is no call.
    """
    return {"method": "", **_CALL(_parse(text), "")}


def wrong_parameter(method: str, parameters: Mapping[str, object]) -> str:
    """The name of one that has another type than it must, or is out of all bounds; "" if all are good.

    What a method does not know is ignored: a caller of a newer release may say more, and `reload` must go on working
    while a package is upgraded.
    """
    for name, wanted in METHODS[method].items():
        try:
            if parameters.get(name) is not None:
                _TYPES[wanted](parameters[name], name)
        except checked.Unfit:
            return name
    return ""


def encode(message: Mapping[str, object]) -> bytes:
    """One message as bytes: ASCII, for the half of a surrogate pair that stands for a byte of a path has no UTF-8."""
    return json.dumps(message).encode() + b"\0"


class MessageReader:
    """Cuts a stream of answers into messages, however the bytes arrive."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Object]:
        """The messages completed by this data.

        Raises ProtocolError for what is no JSON object, or too long.
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
        raise ProtocolError(f"The control socket was sent {text[:60]!r}: {error}.") from None
    if not isinstance(message, dict):
        raise ProtocolError(f"The control socket was sent {text[:60]!r}, which is no JSON object.")
    return message
