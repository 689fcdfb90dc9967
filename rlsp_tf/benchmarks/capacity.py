"""Simulates how upscaling scales to many cores and films, from the times measured on one machine.

A film is planned, its ranges are rendered, and they are joined (:mod:`rlsp_tf.upscaling.plan`), by workers
with one core each. Three resources are shared: the program that hands out tasks, the workers, and the
storage. The simulation is written with SimPy.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlsp_tf.benchmarks.cluster import STAGES
from rlsp_tf.errors import RLSPError
from rlsp_tf.evaluation.tables import markdown_table
from rlsp_tf.upscaling.work_folder import RANGE

FILM = 2.0
"""Hours of a film in an estimate."""
RATE = 24.0
"""Frames per second of a film."""
CLIP = 10
"""Ranges of each clip in the estimate for many clips, which has one clip for each core."""


@dataclass(frozen=True)
class Costs:
    """Costs of a frame, as measured by ``rlsp benchmark ray``.

    Attributes:
        plan, render, join: seconds of a core for a frame.
        read, written: bytes of a frame in the input and in the result.
        start: seconds until a new worker has its first frame.
        task: seconds that handing out a task takes.
        memory: bytes of memory of a worker.
        length: frames of a range.
    """

    plan: float
    render: float
    join: float
    read: float
    written: float
    start: float
    task: float
    memory: float
    length: int

    @classmethod
    def from_result(cls, result: Mapping[str, Any], length: int) -> "Costs":
        """Costs on a core whose neighbours are busy, too, as on a machine with full load."""
        return cls(
            **{stage: float(result["beside"][stage]) for stage in STAGES},
            read=float(result["bytes"]["in"]),
            written=float(result["bytes"]["out"]),
            start=float(result["start"]),
            task=float(result["task"]),
            memory=float(result["memory"]),
            length=length,
        )

    @property
    def seconds(self) -> float:
        """Seconds of a core for a frame."""
        return self.plan + self.render + self.join


@dataclass(frozen=True)
class Estimate:
    """The result of a simulation.

    Attributes:
        seconds: time from the beginning of the first task to the end of the last.
        frames: number of frames of all films.
        busy: share of the time in which ``"cores"``, ``"storage"`` and ``"driver"`` were busy.
    """

    seconds: float
    frames: int
    busy: dict[str, float]

    @property
    def limit(self) -> str:
        """The resource that was busiest."""
        return max(self.busy, key=lambda name: self.busy[name])


def simulate(films: Sequence[int], cores: int, costs: Costs, *, bandwidth: float = math.inf) -> Estimate:
    """Simulates the upscaling of films.

    Storage does one transfer at a time: a film is read when it is planned and again when it is rendered, and
    a result is written, read and written again. Tasks begin in the order in which the program hands them
    out; each worker has to start once.

    Args:
        films: number of frames of each film.
        cores: number of workers.
        costs: costs of a frame.
        bandwidth: bandwidth of the storage in bytes per second.

    Raises:
        RLSPError: if SimPy is not installed.
    """
    try:
        import simpy
    except ImportError as error:
        raise RLSPError(
            "a simulation needs SimPy; install it by: pip install 'rlsp_tf[benchmark]'."
        ) from error
    world = simpy.Environment()
    driver, storage = simpy.Resource(world), simpy.Resource(world)
    # Workers by the time that their start still takes: those that have started come first.
    pool = simpy.PriorityStore(world)
    pool.items += [costs.start] * cores
    used = {"cores": 0.0, "storage": 0.0, "driver": 0.0}

    def hold(resource: Any, name: str, seconds: float) -> Generator[Any, Any, None]:
        with resource.request() as turn:
            yield turn
            used[name] += seconds
            yield world.timeout(seconds)

    def task(seconds: float, transfer: float) -> Generator[Any, Any, None]:
        yield from hold(driver, "driver", costs.task)
        start = yield pool.get()
        if transfer and bandwidth < math.inf:
            yield from hold(storage, "storage", transfer / bandwidth)
        used["cores"] += seconds
        yield world.timeout(start + seconds)
        yield pool.put(0.0)

    def film(frames: int) -> Generator[Any, Any, None]:
        yield world.process(task(costs.plan * frames, costs.read * frames))
        ranges = max(1, frames // costs.length)
        sizes = [frames * (index + 1) // ranges - frames * index // ranges for index in range(ranges)]
        moved = costs.read + costs.written
        yield world.all_of(
            [world.process(task(costs.render * size, moved * size)) for size in sizes],
        )
        yield world.process(task(costs.join * frames, 2 * costs.written * frames))

    for frames in films:
        world.process(film(frames))
    world.run()
    capacity = {"cores": cores, "storage": 1, "driver": 1}
    busy = {name: seconds / (capacity[name] * world.now) for name, seconds in used.items()}
    return Estimate(world.now, sum(films), busy)


def check(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Simulates the runs that ``rlsp benchmark ray`` has timed.

    Returns:
        For ``"one worker"`` and ``"two workers"`` milliseconds per frame ``{"measured", "simulated"}``, and
        under ``"ratio"`` the same for how many times as fast two workers are.
    """
    found: dict[str, dict[str, float]] = {}
    beside = Costs.from_result(result, 10**9)
    # A single worker has no busy neighbours.
    alone = replace(beside, **{stage: result["alone"][stage] for stage in STAGES})
    for name, workers, costs in (("one worker", 1, alone), ("two workers", 2, beside)):
        times = [
            simulate([frames] * result["clips"], workers, costs).seconds
            for frames in (result["few"], result["many"])
        ]
        per_frame = (times[1] - times[0]) / (result["clips"] * (result["many"] - result["few"]))
        found[name] = {
            "measured": 1e3 * result["contenders"][name]["per_frame"],
            "simulated": 1e3 * per_frame,
        }
    one, two = found["one worker"], found["two workers"]
    found["ratio"] = {"measured": result["ratio"], "simulated": one["simulated"] / two["simulated"]}
    return found


def describe_capacity(
    result: Mapping[str, Any], cores: Sequence[int], bandwidth: float, *, length: int = RANGE
) -> str:
    """Describes as Markdown what video costs and how far that scales.

    Args:
        result: result of :func:`rlsp_tf.benchmarks.cluster.benchmark_ray`.
        cores: numbers of cores to simulate.
        bandwidth: bandwidth of the storage in bytes per second.
        length: frames of a range.

    Raises:
        RLSPError: if SimPy is not installed.
    """
    costs = Costs.from_result(result, length)
    hour = RATE * 3600
    rows = [["", "measured", "simulated"], ["---", "---:", "---:"]]
    for name, each in check(result).items():
        unit = "two workers to one" if name == "ratio" else f"{name}, ms per frame"
        rows.append([unit, f"{each['measured']:.2f}", f"{each['simulated']:.2f}"])
    lines = markdown_table(rows)
    rows = [[f"of video at {RATE:g} frames/s", "one hour", "a million hours"], ["---", "---:", "---:"]]
    for what, amount in (
        ("core hours", costs.seconds * hour / 3600),
        ("read and written [GB]", (2 * costs.read + 3 * costs.written) * hour / 1e9),
        ("result [GB]", costs.written * hour / 1e9),
    ):
        rows.append([what, f"{amount:.3g}", f"{1e6 * amount:.3g}"])
    lines += ["", *markdown_table(rows), ""]
    lines += [f"A worker takes {costs.memory / 1e9:.2f} GB of memory.", ""]
    header = ["cores", "hours of video per hour", "a million hours [days]"]
    header += ["cores at work", "storage busy", "driver busy", f"a film of {FILM:g} hours [min]"]
    rows = [header, ["---:"] * len(header)]
    for count in cores:
        many = simulate([CLIP * length] * count, count, costs, bandwidth=bandwidth)
        film = simulate([round(FILM * hour)], count, costs, bandwidth=bandwidth)
        speed = many.frames / hour / (many.seconds / 3600)
        shares = [f"{many.busy[name]:.0%}" for name in ("cores", "storage", "driver")]
        rows.append(
            [str(count), f"{speed:.3g}", f"{1e6 / speed / 24:.3g}", *shares, f"{film.seconds / 60:.3g}"]
        )
    return "\n".join([*lines, *markdown_table(rows)])
