"""The language of the control socket: Varlink, JSON objects each ended by a NUL byte (https://varlink.org/Method-Call).

Bytes in, messages out: nothing here knows a socket. The varlink library is not in Debian 12.
"""

import json
from collections.abc import Mapping

from .errors import ProtocolError

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
    f"{INTERFACE}.Scale": {"workers": int, "by": int},
    f"{_SERVICE}.GetInfo": {},
    f"{_SERVICE}.GetInterfaceDescription": {"interface": str},
}

MAX_MESSAGE_BYTES = 256 * 1024

Object = dict[str, object]


def wrong_parameter(method: str, parameters: Mapping[str, object]) -> str:
    """The name of one that has another type than it must; "" if all are good.

    What a method does not know is ignored: a caller of a newer release may say more, and `reload` must go on working
    while a package is upgraded.
    """
    known = METHODS[method]
    for name, value in parameters.items():
        # True is an int to Python.
        if name in known and value is not None and type(value) is not known[name]:
            return name
    return ""


def encode(message: Mapping[str, object]) -> bytes:
    """One message as bytes: ASCII, for half a surrogate pair, which a caller may have sent, has no UTF-8."""
    return json.dumps(message).encode() + b"\0"


class MessageReader:
    """Cuts a stream into messages, however the bytes arrive."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def in_the_middle(self) -> bool:
        """A message has begun and not ended."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[Object]:
        """The messages completed by this data.

        Raises ProtocolError for what is no JSON object, or too long.
        """
        *whole, self._rest = (self._rest + data).split(b"\0")
        if len(self._rest) > MAX_MESSAGE_BYTES:
            raise ProtocolError(f"A message of more than {MAX_MESSAGE_BYTES} bytes arrived on the control socket.")
        return [_parse(text) for text in whole]


def _parse(text: bytes) -> Object:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"The control socket was sent {text[:60]!r}, which is no JSON.") from error
    if not isinstance(message, dict):
        raise ProtocolError(f"The control socket was sent {text[:60]!r}, which is no JSON object.")
    return message
