"""Closes what kafka-python leaves to the garbage collector, which in a large process comes round too seldom."""

from typing import Any

from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket

from connectors.kafka_client_settings import DIRECT

__all__ = ["ClosedWhenRefused", "ClosingClient"]


class ClosedWhenRefused(KafkaNetSocket):  # type: ignore[misc]
    """Connects directly, and closes the socket of a connection that fails: an outage of hours has many."""

    SCHEMES = (DIRECT,)

    async def sock_connect(self, net: Any, sock: Any, sockaddr: Any, timeout_at: float | None = None) -> Any:
        """Connect, or close the socket and raise what the client raises."""
        try:
            return await super().sock_connect(net, sock, sockaddr, timeout_at=timeout_at)
        except BaseException:
            sock.close()
            raise


class ClosingClient(KafkaNetClient):  # type: ignore[misc]
    """Stops its thread before it closes, and closes with itself the connections that have something to send.

    kafka-python 3.0.12 closes beneath the thread, which then reads from what is gone, and leaves such connections open.
    """

    def close(self, node_id: Any = None) -> None:
        """Close the connection to one node, or everything."""
        if node_id is not None:
            super().close(node_id)
            return
        self._net.stop()
        super().close()
        for connection in list(self._manager._conns.values()):  # those that closed have gone from here
            if connection.transport is not None and connection.transport._sock is not None:
                connection.transport._sock.close()
