"""The counters of a server, for Prometheus."""

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
"""Upper bounds of the histograms of durations, in seconds."""
REPLICA = "ray::ServeReplica"
"""The beginning of the title of a replica's process."""


class Metrics:
    """The counters of one server since its start.

    Attributes:
        requests: answered requests, by the name of the route and the status.
        refused: answers with a status of 400 or more, by the status.
        frames: upscaled frames, by ``kind``: those of sessions and of videos.
        frame_seconds: seconds from the arrival of a session's frame to its answer.
        video_seconds: seconds from the last byte of a video's upload to its result.
        batch: size of the batch in which the frame of a session was computed.
        sessions: open sessions.
        expired: sessions that expired without a flush.
        bytes: bytes of bodies, in and out.
    """

    def __init__(self) -> None:
        # The creation times of series would double the number of lines, and nothing needs them.
        disable_created_metrics()
        self._registry = CollectorRegistry()

        registry = self._registry
        self.requests = Counter("rlsp_requests", "Requests answered.", ("route", "status"), registry=registry)
        self.refused = Counter("rlsp_refused", "Requests refused.", ("status",), registry=registry)
        self.frames = Counter("rlsp_frames", "Frames upscaled.", ("kind",), registry=registry)
        self.frame_seconds = Histogram(
            "rlsp_frame_seconds",
            "Seconds for the frame of a session.",
            buckets=SECONDS,
            registry=registry,
        )
        self.video_seconds = Histogram(
            "rlsp_video_seconds", "Seconds for a video.", buckets=SECONDS, registry=registry
        )
        self.batch = Histogram(
            "rlsp_streams", "Streams in the batch of a frame.", buckets=(1, 2, 4, 8), registry=registry
        )
        self.sessions = Gauge("rlsp_sessions", "Open sessions.", registry=registry)
        self.expired = Counter("rlsp_expired", "Sessions expired without a flush.", registry=registry)
        self.bytes = Counter("rlsp_bytes", "Bytes of bodies.", ("direction",), registry=registry)
        self._memory = Gauge(
            "rlsp_resident_bytes", "Memory of the processes.", ("process",), registry=registry
        )

    def text(self) -> bytes:
        """Returns all counters in the text format of Prometheus."""
        own = psutil.Process()
        self._memory.labels("front").set(own.memory_info().rss)
        self._memory.labels("replicas").set(sum(map(_memory_of, own.children(recursive=True))))
        return generate_latest(self._registry)


def _memory_of(process: psutil.Process) -> int:
    """Returns the resident memory of a process in bytes if it is a replica, otherwise 0."""
    try:
        return process.memory_info().rss if process.cmdline()[0].startswith(REPLICA) else 0
    except (psutil.Error, IndexError):
        return 0
