"""Counters for Prometheus at /metrics. They contain no names of photographs or people."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Counters:
    """One registry for each server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "foveal_request_seconds", "Seconds from a request to its answer", ("route", "status"),
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.answers = Counter(
            "foveal_answers", "Photographs by answer: a grade, ungradable or unreadable", ("answer",),
            registry=self.registry,
        )  # fmt: skip
        self.reviews = Counter("foveal_reviews", "Saved reviews", ("agrees",), registry=self.registry)
        self.in_work = Gauge("foveal_in_work", "Photographs being graded", registry=self.registry)
        self.batches = Histogram(
            "foveal_batch_images", "Photographs in one pass of the network", buckets=BATCHES, registry=self.registry
        )
        self.network = Histogram(
            "foveal_network_seconds", "Seconds of a pass through the network", buckets=SECONDS, registry=self.registry
        )

    def batch(self, images: int, seconds: float) -> None:
        """Count a pass through the network."""
        self.batches.observe(images)
        self.network.observe(seconds)

    def text(self) -> bytes:
        """All counters in the format of Prometheus."""
        return generate_latest(self.registry)
