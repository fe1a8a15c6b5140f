"""The language of the control socket: Varlink, JSON objects each ended by a NUL byte (https://varlink.org/Method-Call).

Bytes in, messages out: nothing here knows a socket. The varlink library is not in Debian 12.
"""

import json
from collections.abc import Mapping

from .errors import ProtocolError

INTERFACE = "io.sdsupervise"
METHOD_NOT_FOUND = "org.varlink.service.MethodNotFound"
INVALID_PARAMETER = "org.varlink.service.InvalidParameter"
PERMISSION_DENIED = "org.varlink.service.PermissionDenied"

MAX_MESSAGE_BYTES = 256 * 1024

Object = dict[str, object]


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
