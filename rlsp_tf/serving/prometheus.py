"""The counters of a server, for Prometheus."""

import contextlib

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
LOGGED = Counter("rlsp_log_bytes", "Bytes of the log.", registry=None)
"""Bytes that this process has logged. Loggers are of the whole process, so this is, too."""
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
        registry.register(LOGGED)
        self._memory = Gauge(
            "rlsp_resident_bytes", "Memory of the processes.", ("process",), registry=registry
        )
        self._cpu = Gauge(
            "rlsp_cpu_seconds", "Processor time of the processes.", ("process",), registry=registry
        )
        self._files = Gauge(
            "rlsp_open_files", "Files and connections open in the processes.", ("process",), registry=registry
        )

    def text(self) -> bytes:
        """Returns all counters in the text format of Prometheus."""
        own = psutil.Process()
        used = {"front": _used_by(own), "replicas": [0.0, 0.0, 0.0]}
        for process in own.children(recursive=True):
            # It may have ended meanwhile.
            with contextlib.suppress(psutil.Error, IndexError):
                if process.cmdline()[0].startswith(REPLICA):
                    used["replicas"] = [*map(sum, zip(used["replicas"], _used_by(process), strict=True))]
        for name, amounts in used.items():
            for gauge, amount in zip((self._memory, self._cpu, self._files), amounts, strict=True):
                gauge.labels(name).set(amount)
        return generate_latest(self._registry)


def _used_by(process: psutil.Process) -> list[float]:
    """Returns bytes of memory, seconds of processor time, and the number of open files of a process."""
    with process.oneshot():
        times = process.cpu_times()
        files = process.num_fds() if hasattr(process, "num_fds") else 0
        return [process.memory_info().rss, times.user + times.system, files]
