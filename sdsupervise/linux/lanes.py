"""Two sockets that listen on one address, and the kernel's choice between them: one lane for each of two generations.

A program that gets its stop signal may drop connections that it has accepted and not read yet; uvicorn and hypercorn
do. While it shares a socket with the next generation, it cannot be kept from accepting. With a lane of its own it gets
no more connections as soon as the kernel sends them all into the other lane. Then it has none left to drop when it
stops.

For the same reason a check of new code (before_commit) reaches only that code: the kernel sends the connections of the
check, and no others, into the new lane. It recognizes them by their source port, one of CHECK_PORTS. That counts only
on this host, because a client elsewhere may have any port.

Alternatives considered: a socket that each generation opens anew, beside the previous one, needs the same privileges at
each reload, and the kernel renumbers the remaining sockets when one is closed. eBPF could distinguish more, and also
needs privileges.
"""

import array
import struct
from typing import NamedTuple

from .unpatched import select, socket

CHECK_PORTS = (61000, 61999)  # the first and the last; net.ipv4.ip_local_port_range ends at 60999 by default

_SO_ATTACH_FILTER, _SO_DETACH_FILTER, _SO_ATTACH_REUSEPORT_CBPF = 26, 27, 51  # socket(7); Python does not name them
_NETWORK_HEADER = -0x100000 & 0xFFFFFFFF  # SKF_NET_OFF: offsets from here are in the IP header
# Opcodes of classic BPF, linux/bpf_common.h: load, compare and jump, return.
_LD_W_ABS, _LD_H_ABS, _LD_B_ABS, _LD_H_IND, _LDX_MSH = 0x20, 0x28, 0x30, 0x48, 0xB1
_RSH_K, _TAX = 0x74, 0x07
_JEQ_K, _JEQ_X, _JGT_K, _JGE_K = 0x15, 0x1D, 0x25, 0x35
_RET_K = 0x06
_IPV6, _TCP, _LOOPBACK = 6, 6, 127


class Steering(NamedTuple):
    """The lanes for new connections, 0 or 1: the order in which the two sockets began to listen."""

    everybody: int
    check: int | None = None  # for those from this host and from CHECK_PORTS, if they have a lane of their own


class Instruction(NamedTuple):
    """One BPF instruction. A jump names its targets by labels; "" is the next instruction."""

    code: int
    value: int = 0
    if_true: str = ""
    if_false: str = ""
    label: str = ""


def program(steering: Steering) -> list[Instruction]:
    """Return the program that the kernel runs for each new connection: it returns the number of a socket.

    A connection comes from this host if it has the same address at both ends, or comes from 127.0.0.0/8. An IPv6 socket
    may have IPv4 clients too.
    """
    ip = _NETWORK_HEADER
    if steering.check is None:
        return [Instruction(_RET_K, steering.everybody)]
    low, high = CHECK_PORTS
    same_v6 = [
        instruction
        for word in range(4)
        for instruction in (
            Instruction(_LD_W_ABS, ip + 8 + 4 * word),
            Instruction(_TAX),
            Instruction(_LD_W_ABS, ip + 24 + 4 * word),
            Instruction(_JEQ_X, 0, "", "everybody"),
        )
    ]
    return [
        Instruction(_LD_B_ABS, ip),
        Instruction(_RSH_K, 4),  # the version
        Instruction(_JEQ_K, _IPV6, "v6", ""),
        Instruction(_LD_W_ABS, ip + 12),
        Instruction(_TAX),
        Instruction(_LD_W_ABS, ip + 16),
        Instruction(_JEQ_X, 0, "v4 port", ""),
        Instruction(_LD_B_ABS, ip + 12),
        Instruction(_JEQ_K, _LOOPBACK, "", "everybody"),
        Instruction(_LDX_MSH, ip, label="v4 port"),  # the length of the IP header; the source port follows it
        Instruction(_LD_H_IND, ip),
        Instruction(_JGE_K, low, "not below", "everybody"),
        Instruction(_LD_B_ABS, ip + 6, label="v6"),
        Instruction(_JEQ_K, _TCP, "", "everybody"),  # an extension header stands between the IP header and the ports
        *same_v6,
        Instruction(_LD_H_ABS, ip + 40),
        Instruction(_JGE_K, low, "not below", "everybody"),
        Instruction(_JGT_K, high, "everybody", "", label="not below"),
        Instruction(_RET_K, steering.check),
        Instruction(_RET_K, steering.everybody, label="everybody"),
    ]


def steer(listener: socket.socket, steering: Steering) -> None:
    """Let the kernel choose by this steering from now on, for both sockets of the address. Either may be given.

    Raises OSError. See SO_ATTACH_REUSEPORT_CBPF in socket(7).
    """
    _attach(listener, _SO_ATTACH_REUSEPORT_CBPF, program(steering))


def join(first: socket.socket, second: socket.socket, backlog: int) -> None:
    """Let the second socket, which is not bound yet, listen where the first does. It is lane 1, and gets no client yet.

    Raises OSError.
    """
    for each in (first, second):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    second.bind(first.getsockname())
    # For some microseconds the second socket listens before the kernel can be configured not to choose it. If we have
    # the rights, a filter drops all packets meanwhile, and clients try again after a second. Otherwise such a client
    # waits in lane 1.
    drops_packets = _drop_packets(second)
    second.listen(backlog)
    steer(first, Steering(0))
    if drops_packets:
        second.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def _drop_packets(listener: socket.socket) -> bool:
    """Drop all packets; return False if the kernel allows that only to root."""
    try:
        _attach(listener, _SO_ATTACH_FILTER, [Instruction(_RET_K, 0)])
    except PermissionError:
        return False
    return True


def has_waiting_clients(listener: socket.socket) -> bool:
    """Return whether connections wait to be accepted, on a TCP or UNIX socket."""
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    return bool(poller.poll(0))


def waiting(listener: socket.socket) -> int:
    """Return how many connections wait to be accepted, on a TCP socket: tcp(7), TCP_INFO."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
    # at this offset a connection has tcpi_unacked, and a listener the length of its queue
    return int(struct.unpack_from("=I", info, 24)[0])


def stop_listening(listener: socket.socket) -> None:
    """Stop listening, in all copies of the socket. Connections that wait are closed."""
    try:
        listener.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is not listening


def abandon(listener: socket.socket) -> None:
    """Close the connections that wait in a lane where no process accepts. Their clients can then connect again."""
    blocks = listener.getblocking()
    listener.setblocking(False)
    try:
        while True:
            listener.accept()[0].close()
    except BlockingIOError:
        pass
    finally:
        listener.setblocking(blocks)


def why_ports_are_taken() -> str:
    """Return why any client may get one of CHECK_PORTS as its source port, as a sentence; "" if it must ask for it."""
    low, high = (int(word) for word in _kernel_setting("ip_local_port_range", "32768 60999").split())
    first, last = CHECK_PORTS
    reserved = [span.partition("-") for span in _kernel_setting("ip_local_reserved_ports", "").split(",") if span]
    kept = {port for start, _, end in reserved for port in range(int(start), int(end or start) + 1)}
    if all(port in kept for port in range(max(low, first), min(high, last) + 1)):
        return ""
    return (
        f"before_commit uses the source ports {first}-{last} for its connections, but this host also gives them to "
        f"other clients (net.ipv4.ip_local_port_range is {low}-{high}); reserve them: "
        f"sysctl net.ipv4.ip_local_reserved_ports={first}-{last}."
    )


def _kernel_setting(name: str, default: str) -> str:
    try:
        with open(f"/proc/sys/net/ipv4/{name}") as file:
            return file.read().strip()
    except OSError:
        return default  # a sandbox may hide it


def _attach(listener: socket.socket, option: int, instructions: list[Instruction]) -> None:
    places = {instruction.label: place for place, instruction in enumerate(instructions) if instruction.label}
    code = array.array("B")
    for place, (operation, value, if_true, if_false, _) in enumerate(instructions):
        true, false = (places[label] - place - 1 if label else 0 for label in (if_true, if_false))
        code.frombytes(struct.pack("=HBBI", operation, true, false, value))
    address, _ = code.buffer_info()
    listener.setsockopt(socket.SOL_SOCKET, option, struct.pack("@HP", len(instructions), address))
