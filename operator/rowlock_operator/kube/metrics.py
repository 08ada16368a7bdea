"""What the operator counts about itself, for Prometheus.

A registry of its own, so that two operators in one process (as in a test) do not share numbers. Counters
that tell a job's story (generations, failures, preemptions) are taken from the status that was written,
not from what happened on the way: they agree with what `kubectl` shows.
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from rowlock.api.v1alpha1 import JobStatus

#: Seconds of one reconcile: from a look that changes nothing to a request that timed out.
RECONCILE_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
#: Seconds from a fault to the crew's next step: from a fork to a new node.
RECOVERY_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """All metrics of one operator."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.reconciles = Counter(
            "rowlock_reconciles", "Looks at a job, by how they ended.", ["result"], registry=registry
        )
        self.reconcile_seconds = Histogram(
            "rowlock_reconcile_seconds", "Duration of one look at a job.", buckets=RECONCILE_BUCKETS, registry=registry
        )
        self.queue_depth = Gauge("rowlock_queue_depth", "Jobs that wait for a look.", registry=registry)
        self.queue_delayed = Gauge("rowlock_queue_delayed", "Jobs that wait for their time.", registry=registry)
        self.api_requests = Counter(
            "rowlock_api_requests",
            "Requests to the API server, watches aside. Code error: no answer came.",
            ["verb", "resource", "code"],
            registry=registry,
        )
        self.watch_events = Counter(
            "rowlock_watch_events", "Watch events received.", ["resource", "type"], registry=registry
        )
        self.jobs = Gauge("rowlock_jobs", "Jobs by phase.", ["phase"], registry=registry)
        self.generations = Counter("rowlock_generations", "Generations started.", registry=registry)
        self.failures = Counter("rowlock_failures", "Failures counted.", registry=registry)
        self.preemptions = Counter("rowlock_preemptions", "Preemptions counted.", registry=registry)
        self.recovery_seconds = Histogram(
            "rowlock_recovery_seconds",
            "From leaving phase Running for Recovering to being back in it.",
            buckets=RECOVERY_BUCKETS,
            registry=registry,
        )
        self.launchers = Gauge("rowlock_connected_launchers", "Launchers that hold a connection.", registry=registry)
        self.leader = Gauge("rowlock_leader", "Whether this operator decides (1) or stands by (0).", registry=registry)
        self.resyncs = Counter("rowlock_resyncs", "Full lists taken, by how they ended.", ["result"], registry=registry)

    def status_written(self, before: JobStatus, after: JobStatus) -> None:
        """Count what one status write said that the one before did not."""
        self.generations.inc(max(0, after.generation - before.generation))
        self.failures.inc(max(0, after.failures.count - before.failures.count))
        self.preemptions.inc(max(0, after.preemptions.count - before.preemptions.count))

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
