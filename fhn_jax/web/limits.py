"""How much one address may ask for."""

import ipaddress
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence

from fhn_jax.errors import InputError

# Addresses that are remembered for the rate limit.
_MOST_ADDRESSES = 100_000

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def address_key(address: str) -> str:
    """What counts as one address: for IPv6 the 64 bits that a customer is given.

    >>> address_key("192.0.2.7"), address_key("::ffff:192.0.2.7")
    ('192.0.2.7', '192.0.2.7')
    >>> address_key("2001:db8::1") == address_key("2001:db8::2")
    True
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address  # a socket without addresses
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))


def networks(names: Sequence[str]) -> tuple[Network, ...]:
    """The addresses and networks of --trusted-proxies.

    Raises:
      InputError: one is neither.
    """
    found = []
    for name in names:
        try:
            found.append(ipaddress.ip_network(name))
        except ValueError as error:
            raise InputError(
                f"--trusted-proxies: {error}; expected addresses or networks, such as "
                "127.0.0.1 or 10.0.0.0/8"
            ) from None
    return tuple(found)


def is_in(address: str, some: Sequence[Network]) -> bool:
    """Whether an address is in one of some networks."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = parsed.ipv4_mapped or parsed
    return any(parsed in network for network in some)


class RateLimit:
    """A bucket of requests for each address, which fills again at a steady rate.

    Args:
      rate: a second.
      burst: what a bucket holds.
    """

    def __init__(self, rate: float, burst: float):
        self._rate, self._burst = rate, max(burst, 1.0)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, address: str, cost: float = 1.0, now: float | None = None) -> float:
        """Takes a request out of a bucket.

        Args:
          cost: how many requests it counts for.
          now: seconds of a steady clock.
        Returns:
          0, or seconds to wait if there is none left.
        """
        now = time.monotonic() if now is None else now
        with self._lock:
            left, before = self._buckets.pop(address, (self._burst, now))
            left = min(self._burst, left + (now - before) * self._rate)
            admitted = left >= cost
            self._buckets[address] = (left - cost if admitted else left, now)
            if len(self._buckets) > _MOST_ADDRESSES:
                self._buckets.popitem(last=False)
        return 0.0 if admitted else (cost - left) / self._rate


class InFlight:
    """How many things each key has going on; for the event loop alone.

    Args:
      most: of one key.
    """

    def __init__(self, most: int):
        self._most, self._counts = most, Counter()

    def begin(self, key: object) -> bool:
        """Counts one more, unless there are as many as may be."""
        if self._counts[key] >= self._most:
            return False
        self._counts[key] += 1
        return True

    def end(self, key: object) -> None:
        """Counts one less."""
        self._counts[key] -= 1
        if not self._counts[key]:
            del self._counts[key]
