"""Free ports for what listens on this machine while something is tried or measured."""

import random
import socket

# A name for each port given, in the kernel's table of abstract sockets: no other run on this machine is given it, and it is
# free again when this process ends, however it ends.
_held = []


def free_port(address="", count=1):
    """The first of `count` ports in a row that are free for TCP and UDP at the address (all of them by default), below the
    range that outgoing connections take theirs from."""
    while True:
        first = random.randrange(20_000, 32_000)
        names = []
        try:
            for port in range(first, first + count):
                names.append(socket.socket(socket.AF_UNIX))
                names[-1].bind(f"\0triad-port-{port}")
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    with socket.socket(type=kind) as probe:
                        probe.bind((address, port))
        except OSError:
            for one in names:
                one.close()
            continue
        _held.extend(names)
        return first
