"""What all benchmarks share: contenders in processes of their own that take turns, and the machine.

Every result says how it came about: ``"benchmark"``, ``"command"``, ``"machine"`` and ``"versions"``.
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

from tqdm import tqdm

from rlsp_tf.errors import RLSPError, first_line
from rlsp_tf.inference.hardware import cpu_flags, cpu_info
from rlsp_tf.system.cores import cores

REST = 0.3
"""Seconds before each turn: threads of the one before wait actively for up to 0.2, on cores not theirs."""
INSTRUCTIONS = ("amx_bf16", "amx_int8", "avx512_bf16", "avx512_vnni")
"""Of processors, in the words of /proc/cpuinfo, that decide what bfloat16 and 8 bits gain."""


class Overdue(RLSPError):
    """An object did not answer in time; its process has been ended."""


class Worker:
    """An object in a process of its own.

    Libraries have one pool of threads a process, each runs best with another one, and some crash beside
    each other. A process begins by ``spawn``, with nothing of this one in it.

    Args:
        name: what to call it in messages.
        side: the class; importing its module should load no more than it needs. It has an attribute
            ``about``, of types that can be pickled.
        arguments: for the class.

    Attributes:
        name: as given.
        about: the object's.

    Raises:
        RLSPError: if the object cannot be made; the process has ended then.
    """

    def __init__(self, name: str, side: type, *arguments: Any) -> None:
        self.name = name
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, side, arguments), daemon=True)
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
            method: its name.
            arguments: for it.
            limit: seconds that it may take.

        Raises:
            Overdue: if it takes longer.
            RLSPError: if it fails; what it raises itself is passed on if it is one.
        """
        # One that has failed before has ended: receiving tells so.
        with contextlib.suppress(BrokenPipeError):
            self._connection.send((method, arguments))
        return self._receive(limit)

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
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


def _serve(connection: Connection, name: str, side: type, arguments: tuple[Any, ...]) -> None:
    # What libraries have to say when they start is no part of the result.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        worker = side(*arguments)
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
    """Lets each worker run while the others rest, round after round, so that all see the same machine.

    Args:
        workers: their objects have a method ``run``.
        rounds: how many.
        arguments: for ``run``.
        progress: show a progress bar on standard error.

    Returns:
        What ``run`` gave, for every worker a list of all rounds.
    """
    results: list[list[Any]] = [[] for _ in workers]
    with tqdm(total=rounds * len(workers), desc="turns", disable=not progress, leave=False) as bar:
        for _ in range(rounds):
            for worker, own in zip(workers, results, strict=True):
                bar.set_postfix_str(worker.name)
                time.sleep(REST)
                own.append(worker.call("run", *arguments))
                bar.update()
    return results


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The median over rounds of the quotient in a round: what slows the machine slows both."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def heading(benchmark: str, command: str, packages: Iterable[str] = ()) -> dict[str, Any]:
    """What every result begins with; call it before the work, which is a load, too.

    Args:
        benchmark: its name.
        command: the command line behind it.
        packages: whose versions matter, beside ours, TensorFlow, Keras and NumPy.
    """
    versions = {"python": platform.python_version()}
    for package in ("rlsp_tf", "tensorflow", "keras", "numpy", *packages):
        versions[package] = metadata.version(package)
    return {
        "benchmark": benchmark,
        "command": command,
        "machine": machine(),
        "versions": versions,
    }


def installed(package: str) -> bool:
    """Whether there is a package, by its name in the registry."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def machine() -> dict[str, Any]:
    """The processor, its cores, how many of them this process may use, its load, and INSTRUCTIONS it has.

    Only Linux tells what instructions there are; elsewhere they are ``None``.
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
    """Machine and versions of a result, in two lines of text."""
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
