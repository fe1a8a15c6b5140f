"""Two sockets that listen on one address, and the kernel's choice between them: one lane for each of two generations.

A program that is told to stop may drop what it has accepted and not read yet; uvicorn and hypercorn do. Nobody can keep
it from accepting on a socket that it shares with the next generation. In a lane of its own it gets no more connections
once the kernel sends them all into the other lane, and has nothing left to drop when it is told to stop.

Alternatives considered: a socket that each generation opens anew, beside that of the one before, needs the same
privileges at each reload, and the kernel numbers those that are left anew when one is closed.
"""

import array
import socket
import struct

_SO_ATTACH_REUSEPORT_CBPF = 51  # socket(7); Python does not name it
_RETURN_CONSTANT = 0x06  # BPF_RET | BPF_K


def steer(listener: socket.socket, lane: int) -> None:
    """Have the kernel put all connections from now on into this lane, 0 or 1: the order in which they began to listen.

    Raises OSError.
    """
    # A program for the kernel of one instruction: the number of the socket is this.
    program = array.array("B", struct.pack("=HBBI", _RETURN_CONSTANT, 0, 0, lane))
    address, _ = program.buffer_info()
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, struct.pack("@HP", 1, address))


def waiting(listener: socket.socket) -> int:
    """How many connections nobody has accepted yet."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
    return int(struct.unpack_from("=I", info, 24)[0])  # of a listener, where a connection has tcpi_unacked


def abandon(listener: socket.socket) -> None:
    """Hang up on those who wait in a lane that nobody accepts in: they connect anew, instead of waiting in vain."""
    blocks = listener.getblocking()
    listener.setblocking(False)
    try:
        while True:
            listener.accept()[0].close()
    except BlockingIOError:
        pass
    finally:
        listener.setblocking(blocks)
