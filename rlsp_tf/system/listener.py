"""A socket that listens, opened before anything that takes time."""

import socket

from rlsp_tf.errors import RLSPError


def listen(host: str, port: int, command: str) -> socket.socket:
    """Opens a socket that listens for connections.

    Args:
        host: the address to listen on.
        port: the port to listen on; 0 for any free one.
        command: the command that listens, for the message.

    Raises:
        RLSPError: if nothing can listen there.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise RLSPError(
            f"{command}: cannot listen on {host}:{port} ({reason}); give another by --host or --port."
        ) from error
