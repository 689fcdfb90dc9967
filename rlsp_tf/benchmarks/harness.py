"""What all benchmarks share: workers in processes of their own that take turns, and facts about the machine.

Every result records how it was made: ``"benchmark"``, ``"command"``, ``"machine"`` and ``"versions"``.
"""

import contextlib
import os
import platform
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from rlsp_tf._version import __version__
from rlsp_tf.errors import RLSPError, first_line
from rlsp_tf.inference.hardware import cpu_flags, cpu_info
from rlsp_tf.system.backends import chosen_backend
from rlsp_tf.system.cores import cores
from rlsp_tf.system.progress import ProgressBar
from rlsp_tf.system.quiet import quiet_tensorflow

GRACE = 2
"""Seconds in which an idle worker ends by itself, and frees what it shares with the system."""
REST = 0.3
"""Seconds of rest before each turn: threads of the previous worker keep cores busy for up to 0.2 s."""
INSTRUCTIONS = ("amx_bf16", "amx_int8", "avx512_bf16", "avx512_vnni")
"""Flags in /proc/cpuinfo of the instructions that make bfloat16 and 8 bits fast."""


class Overdue(RLSPError):
    """A worker did not answer in time, and its process was ended."""


class Worker:
    """An object in a process of its own.

    Libraries share one pool of threads in a process, run best with different settings of it, and some crash
    beside each other. Processes are started by ``spawn``, so they share nothing with this one.

    Args:
        name: name of the worker in messages.
        kind: class of the object; importing its module should load no more than it needs. Instances have
            an attribute ``about`` that can be pickled.
        arguments: arguments of the class.

    Attributes:
        name: name of the worker in messages.
        about: the attribute ``about`` of the object.

    Raises:
        RLSPError: if the object cannot be made; the process has ended then.
    """

    def __init__(self, name: str, kind: type, *arguments: Any) -> None:
        self.name = name
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, kind, arguments), daemon=True)
        with quiet_tensorflow():  # what the process imports before _serve begins may print
            self._process.start()
        theirs.close()
        try:
            self.about = self._receive()
        except BaseException:
            self.close()
            raise

    def call(self, method: str, *arguments: Any, limit: float | None = None) -> Any:
        """Calls a method of the object.

        Args:
            method: name of the method.
            arguments: its arguments.
            limit: longest time in seconds; ``None`` for no limit.

        Raises:
            Overdue: if it takes longer.
            RLSPError: if the method fails; an ``RLSPError`` of its own is passed on.
        """
        # A process that failed before has ended, which _receive reports.
        with contextlib.suppress(BrokenPipeError):
            self._connection.send((method, arguments))
        return self._receive(limit)

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.join(GRACE)
        self._process.terminate()
        self._process.join()

    def _receive(self, limit: float | None = None) -> Any:
        if not self._connection.poll(limit):
            self._process.kill()
            raise Overdue(f"{self.name}: took longer than {limit:g} s.")
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionResetError) as error:
            raise RLSPError(f"{self.name}: its process ended; there may be too little memory.") from error
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(connection: Connection, name: str, kind: type, arguments: tuple[Any, ...]) -> None:
    # Messages that libraries print when they start are not part of the result.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        worker = kind(*arguments)
        connection.send(worker.about)
        while True:
            method, values = connection.recv()
            connection.send(getattr(worker, method)(*values))
    except (EOFError, BrokenPipeError):
        pass
    except Exception as error:
        own = isinstance(error, RLSPError)
        failure = f"{name}: {type(error).__name__}: {first_line(error)}"
        connection.send(error if own else RLSPError(failure))


def take_turns(
    workers: Sequence[Worker], rounds: int, *arguments: Any, progress: bool = False
) -> list[list[Any]]:
    """Runs the workers one after the other, round after round, so that all see the same machine.

    Args:
        workers: workers whose objects have a method ``run``.
        rounds: number of turns of each worker.
        arguments: arguments of ``run``.
        progress: show on standard error how far it is.

    Returns:
        For every worker, the results of ``run`` in all rounds.
    """
    results: list[list[Any]] = [[] for _ in workers]
    with ProgressBar(
        total=rounds * len(workers), desc="turns", unit="turns", show=progress, leave=False
    ) as bar:
        for _ in range(rounds):
            for worker, own in zip(workers, results, strict=True):
                bar.set_postfix_str(worker.name)
                time.sleep(REST)
                own.append(worker.call("run", *arguments))
                bar.update()
    return results


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Median over rounds of the ratio in a round: whatever slows the machine in a round slows both."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def spread(entry: Mapping[str, Any], digits: int = 1) -> str:
    """Formats ``"milliseconds"`` of an entry, with the least and the most of its ``"rounds"``."""
    median, least, most = (
        f"{time:.{digits}f}" for time in (entry["milliseconds"], min(entry["rounds"]), max(entry["rounds"]))
    )
    return f"{median} ({least} to {most})"


def heading(benchmark: str, command: str, packages: Iterable[str] = ()) -> dict[str, Any]:
    """Returns the beginning of a result; call it before measuring, which would count as load.

    Args:
        benchmark: name of the benchmark.
        command: the command line to record.
        packages: packages whose versions to record beside those of rlsp_tf, Keras and its backend, and NumPy.
    """
    versions = {"python": platform.python_version(), "rlsp_tf": __version__}
    for package in (chosen_backend(), "keras", "numpy", *packages):
        versions[package] = metadata.version(package)
    return {
        "benchmark": benchmark,
        "command": command,
        "machine": machine(),
        "versions": versions,
    }


def installed(package: str) -> bool:
    """Whether a package is installed, by its name on PyPI."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def machine() -> dict[str, Any]:
    """Describes the processor: its name, cores, how many of them this process may use, load, INSTRUCTIONS.

    Instructions are ``None`` except on Linux, the only system that lists them.
    """
    info, flags = cpu_info(), cpu_flags()
    instructions = [name for name in INSTRUCTIONS if name in flags] if info else None
    return {
        "processor": info.get("model name", platform.processor() or platform.machine()),
        "cpus": os.cpu_count(),
        "usable": cores(),
        "instructions": instructions,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "platform": platform.platform(),
    }


def describe_machine(result: Mapping[str, Any]) -> list[str]:
    """Formats machine and versions of a result as two lines of text."""
    machine = result["machine"]
    parts = [machine["processor"], f"{machine['usable']} of {machine['cpus']} cores"]
    if machine["instructions"] is not None:
        parts.append(f"with {', '.join(machine['instructions']) or 'none of ' + ', '.join(INSTRUCTIONS)}")
    if machine["load"] is not None:
        parts.append(f"load {machine['load']:.1f} before")
    return [
        ", ".join(parts),
        ", ".join([machine["platform"], *(f"{name} {text}" for name, text in result["versions"].items())]),
    ]
