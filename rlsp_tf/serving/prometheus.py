"""What ``rlsp serve`` counts, as Prometheus reads it."""

import psutil
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
REPLICA = "ray::ServeReplica"
"""How the title of a replica's process begins."""


class Metrics:
    """The numbers of one server, from its start on.

    Attributes:
        requests: by the route's name and the status of the answer.
        refused: by the status.
        frames: upscaled ones, of sessions and of videos.
        frame_seconds: from a frame's arrival to its answer, the way to the network and back included.
        video_seconds: from the last byte of a video to its result.
        streams: of how many sessions and videos the step was that made a frame.
        sessions: open now.
        expired: sessions that were left without a flush.
        bytes: of bodies, in and out.
    """

    def __init__(self) -> None:
        # When each series began: twice as many lines, and nobody asks.
        disable_created_metrics()
        self._registry = CollectorRegistry()

        registry = self._registry
        self.requests = Counter("rlsp_requests", "Requests answered.", ("route", "status"), registry=registry)
        self.refused = Counter("rlsp_refused", "Requests not taken on.", ("status",), registry=registry)
        self.frames = Counter("rlsp_frames", "Frames upscaled.", ("kind",), registry=registry)
        self.frame_seconds = Histogram(
            "rlsp_frame_seconds", "Time of a frame of a session.", buckets=SECONDS, registry=registry
        )
        self.video_seconds = Histogram(
            "rlsp_video_seconds", "Time of a video.", buckets=SECONDS, registry=registry
        )
        self.streams = Histogram(
            "rlsp_streams", "Streams in the step of a frame.", buckets=(1, 2, 4, 8), registry=registry
        )
        self.sessions = Gauge("rlsp_sessions", "Sessions open now.", registry=registry)
        self.expired = Counter("rlsp_expired", "Sessions left without a flush.", registry=registry)
        self.bytes = Counter("rlsp_bytes", "Bytes of bodies.", ("direction",), registry=registry)
        self._memory = Gauge(
            "rlsp_resident_bytes", "Memory of the processes.", ("process",), registry=registry
        )

    def text(self) -> bytes:
        """All of it, in Prometheus's text format."""
        own = psutil.Process()
        self._memory.labels("front").set(own.memory_info().rss)
        self._memory.labels("replicas").set(sum(map(_memory_of, own.children(recursive=True))))
        return generate_latest(self._registry)


def _memory_of(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss if process.cmdline()[0].startswith(REPLICA) else 0
    except (psutil.Error, IndexError):
        return 0
