"""Connections of clients that are slow, silent or many.

uvicorn waits for the first request of a connection for ever, and takes any number of
connections from one address. Here it does neither.
"""

import asyncio
import dataclasses
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

from fhn_jax.web.limits import Network, address_key, is_in


@dataclasses.dataclass(frozen=True)
class Limits:
    """What connections may cost; of one process.

    Attributes:
      per_address: connections of one address.
      total: connections.
      trusted: proxies, whose connections are those of many clients: they have no limit
        per address.
      header_s: seconds until the first request has come, but for its body.
      keep_alive_s: the same after a response.
    """

    per_address: int = 256
    total: int = 4096
    trusted: tuple[Network, ...] = ()
    header_s: float = 10
    keep_alive_s: float = 30


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol of a connection, within `limits`.

    That of h11, which bounds the size of headers; that of httptools does not.

    Beyond a limit a new connection takes the place of the one that has waited longest
    for its client; only if the server is at work for all of them the new one is closed.
    So silent connections shut nobody out, not even others of the same address.
    """

    limits: ClassVar[Limits] = Limits()
    # In the order in which they began to wait for their clients, by address.
    _all: ClassVar[dict["BoundedProtocol", None]] = {}
    _by_address: ClassVar[dict[str, dict["BoundedProtocol", None]]] = {}

    _overdue: asyncio.TimerHandle | None = None
    _address: str | None = None

    def connection_made(self, transport) -> None:
        """Admits a connection, or closes it (asyncio's interface)."""
        super().connection_made(transport)
        limits, mine = self.limits, None
        if self.client and not is_in(self.client[0], limits.trusted):
            self._address = address_key(self.client[0])
            mine = self._by_address.setdefault(self._address, {})
        full = len(self._all) >= limits.total and not _close_one(self._all)
        if mine is not None and len(mine) >= limits.per_address:
            full = full or not _close_one(mine)
        if full:
            transport.abort()
            return
        self._wait_for_client(limits.header_s)

    def on_response_complete(self) -> None:
        """Waits for the next request (uvicorn's interface)."""
        if not self.transport.is_closing():
            self._wait_for_client(self.limits.keep_alive_s)
        super().on_response_complete()

    def connection_lost(self, exc) -> None:
        """Forgets a connection (asyncio's interface)."""
        self._forget()
        super().connection_lost(exc)

    @property
    def waits_for_client(self) -> bool:
        """Whether the client's turn is next: it has not sent a whole request."""
        cycle = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body

    def give_up(self) -> None:
        """Closes the connection at once, without what the client has not taken yet."""
        self._forget()
        self.transport.abort()

    def _wait_for_client(self, seconds: float) -> None:
        self._forget()
        self._all[self] = None
        if self._address is not None:
            self._by_address.setdefault(self._address, {})[self] = None
        self._overdue = self.loop.call_later(seconds, self._give_up_waiting)

    def _give_up_waiting(self) -> None:
        # A body that does not come is the guard's affair, which can say so.
        if self.cycle is None or self.cycle.response_complete:
            self.give_up()

    def _forget(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
        self._all.pop(self, None)
        mine = self._by_address.get(self._address or "")
        if mine is not None:
            mine.pop(self, None)
            if not mine:
                del self._by_address[self._address or ""]


def _close_one(connections: dict[BoundedProtocol, None]) -> bool:
    """Closes the connection that has waited longest for its client, if any waits."""
    for each in connections:
        if each.waits_for_client:
            each.give_up()
            return True
    return False
