"""Metrics of the server for Prometheus."""

import os

import prometheus_client
from prometheus_client import multiprocess


class Metrics:
    """Counts and times of requests.

    Of one process, or of all that count together in the folder
    `PROMETHEUS_MULTIPROC_DIR`.
    """

    def __init__(self):
        self._registry = prometheus_client.CollectorRegistry()
        self._together = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        if not self._together:
            prometheus_client.ProcessCollector(registry=self._registry)
        self._seconds = prometheus_client.Histogram(
            "fhn_request_seconds",
            "Time to answer a request",
            ("method", "route", "status"),
            registry=self._registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
        )
        self._judgements = prometheus_client.Counter(
            "fhn_judgements", "Likes and dislikes", ("liked",), registry=self._registry
        )
        self._lost = prometheus_client.Counter(
            "fhn_impressions_lost",
            "Pages that were shown and not stored",
            registry=self._registry,
        )
        # A counter, since processes that are gone leave their gauges behind.
        self._behind = prometheus_client.Counter(
            "fhn_behind_seconds",
            "Seconds in which another version than the served one was current",
            registry=self._registry,
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Records a response.

        Args:
          route: the pattern of the path, to keep the number of labels small.
        """
        if method not in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
            method = "other"
        self._seconds.labels(method, route, str(status)).observe(seconds)

    def judged(self, liked: bool) -> None:
        """Records a like or dislike."""
        self._judgements.labels(str(liked).lower()).inc()

    def impressions_lost(self, count: int) -> None:
        """Records pages that were shown and could not be stored."""
        self._lost.inc(count)

    def behind(self, seconds: float) -> None:
        """Records a time in which another version than the served one was current."""
        self._behind.inc(seconds)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        registry = self._registry
        if self._together:
            registry = prometheus_client.CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
        return prometheus_client.generate_latest(registry)
