"""How fast this is, measured beside what the paper's authors have published, in one run on one machine."""

import os
import platform
import statistics
import time
from collections.abc import Sequence
from importlib import metadata
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rlsp_tf.clip_index import index_clips
from rlsp_tf.errors import RLSPError
from rlsp_tf.threads import thread_settings

BATCH, FRAMES, CROP = 4, 10, 32
"""Of a training step: what the authors' graph is made for."""
ROUNDS = 7
STEPS = 20
"""Of a round, for either."""
WARM_UP = 3
"""Steps more, of every round, that do not count: threads wake up, and the pipeline fills."""


def benchmark_train(
    authors_meta: str | os.PathLike[str],
    data: Sequence[str | os.PathLike[str]],
    *,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Training steps per second: the authors' own graph, and ours, in turn.

    Both do the same work: batches of 4 samples of 10 frames of 32x32 low-resolution pixels, forward,
    back-propagation through time, Adam. Theirs runs in float32 as it was made, fed from memory. Ours
    is what ``rlsp train`` does, in bfloat16, with clips sampled meanwhile, gradients clipped and weights
    averaged. Each has a process of its own and rests while the other works.

    Args:
        authors_meta: the ``.meta`` file of a checkpoint of theirs; its size decides the network.
        data: clips to train on; see :func:`rlsp_tf.clip_index.index_clips`.
        cache: for clips made ready.
        progress: show a progress bar on standard error.

    Returns:
        What :func:`describe` prints: machine, versions, and under ``"authors"`` and ``"ours"``
        ``"steps_per_second"``, the median of the rounds, and each of them; ``"ratio"``, ours to theirs, in
        the median of the rounds; ``"waiting"``, the share of our time spent waiting for clips.

    Raises:
        RLSPError: if the graph or the clips cannot be used.
    """
    roots = [os.fspath(root) for root in data]
    authors = _Worker(AuthorsTraining, os.fspath(authors_meta))
    ours = None
    try:
        index_clips(roots, cache=cache, progress=progress)
        ours = _Worker(OurTraining, authors.about["filters"], roots, cache)
        rounds = []
        for _ in tqdm(range(ROUNDS), desc="rounds", disable=not progress, leave=False):
            rounds.append((authors.run(), ours.run()))
    finally:
        for worker in (authors, ours):
            if worker is not None:
                worker.close()
    return {
        "machine": _machine(),
        "versions": {"python": platform.python_version()}
        | {package: metadata.version(package) for package in ("rlsp_tf", "tensorflow", "keras")},
        "step": f"batch {BATCH}, {FRAMES} frames, {CROP}x{CROP} low-resolution pixels",
        "network": f"7-{authors.about['filters']}",
        "authors": _summary(
            "their graph, float32, fed from memory", [theirs["rate"] for theirs, _ in rounds]
        ),
        "ours": _summary("rlsp train, bfloat16, clips sampled meanwhile", [own["rate"] for _, own in rounds]),
        "ratio": statistics.median(own["rate"] / theirs["rate"] for theirs, own in rounds),
        "waiting": statistics.median(own["waiting"] for _, own in rounds),
    }


def describe(result: dict[str, Any]) -> str:
    """The result of :func:`benchmark_train` as lines of text."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [
        f"{machine['processor']}, {machine['cpus']} cores, load {machine['load']:.1f}; {versions}",
        f"training {result['network']}: {result['step']}",
    ]
    for name in ("authors", "ours"):
        rates = result[name]["rounds"]
        lines.append(
            f"{name:>8} {result[name]['steps_per_second']:6.2f} steps/s ({min(rates):.2f} to "
            f"{max(rates):.2f} in {len(rates)} rounds): {result[name]['what']}"
        )
    lines.append(f"   ratio {result['ratio']:6.2f} (waiting for clips: {result['waiting']:.1%} of our time)")
    return "\n".join(lines)


class AuthorsTraining:
    """The authors' own training graph, out of the ``.meta`` file of a checkpoint, fed from memory.

    Args:
        meta: the file; the weights beside it are not needed, since speed does not depend on them.

    Attributes:
        about: ``{"filters"}`` of the network in it.

    Raises:
        RLSPError: if the file holds no such graph.
    """

    def __init__(self, meta: str) -> None:
        import tensorflow as tf

        try:
            with tf.Graph().as_default() as graph:
                tf.compat.v1.train.import_meta_graph(meta, clear_devices=True)
                self._step = graph.get_operation_by_name("Adam")
                filters = int(graph.get_tensor_by_name("init_state:0").shape[-1])
                rng = np.random.default_rng(0)
                hr = 4 * CROP
                arrays: dict[str, np.ndarray] = {
                    # A frame more at both ends, for the windows.
                    "s_input:0": rng.uniform(0, 255, (BATCH, FRAMES + 2, CROP, CROP, 3)),
                    "s_target:0": rng.uniform(0, 255, (BATCH, FRAMES, hr, hr, 3)),
                    "init_state:0": np.zeros((BATCH, CROP, CROP, filters)),
                    "s_init_fb:0": np.zeros((BATCH, hr, hr, 1)),
                    "learning_rate:0": np.array(1e-4),
                }
                self._feed = {
                    graph.get_tensor_by_name(name): array.astype(np.float32) for name, array in arrays.items()
                }
                begin = tf.compat.v1.global_variables_initializer()
        except (OSError, ValueError, KeyError, TypeError, tf.errors.OpError) as error:
            raise RLSPError(
                f"{meta}: holds no training graph of the paper's authors; give a .meta file of theirs."
            ) from error
        self.about = {"filters": filters}
        self._session = tf.compat.v1.Session(graph=graph)
        self._session.run(begin)

    def run(self, steps: int) -> dict[str, float]:
        """Does some steps; gives ``{"rate"}`` in steps per second."""
        for step in range(WARM_UP + steps):
            if step == WARM_UP:
                began = time.perf_counter()
            self._session.run(self._step, self._feed)
        return {"rate": steps / (time.perf_counter() - began)}


class OurTraining:
    """Training as ``rlsp train`` does it, without checkpoints and validation.

    Args:
        filters: of the network.
        roots, cache: see :func:`rlsp_tf.clip_index.index_clips`.
    """

    def __init__(self, filters: int, roots: list[str], cache: str | None) -> None:
        os.environ.update(thread_settings(BATCH))
        from rlsp_tf.config import RLSPConfig
        from rlsp_tf.train import TrainingOptions, compile_model

        self.about: dict[str, Any] = {}
        clips, _ = index_clips(roots, cache=cache)
        options = TrainingOptions(
            network=RLSPConfig(filters=filters), batch=BATCH, frames=FRAMES, crop=CROP, precision="bfloat16"
        )
        self._sampler = options.sampler(clips)
        self._model = compile_model(options)
        self._step = 0

    def run(self, steps: int) -> dict[str, float]:
        """Does some steps; gives ``{"rate", "waiting"}``: steps per second, share of time spent waiting."""
        import keras

        from rlsp_tf.train import feed

        ticks: list[float] = []
        waits: list[float] = []
        first, self._step = self._step, self._step + WARM_UP + steps
        tick = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: ticks.append(time.perf_counter())
        )
        self._model.fit(feed(self._sampler, first, self._step, waits), callbacks=[tick], verbose=0)
        seconds = ticks[-1] - ticks[WARM_UP - 1]
        return {"rate": steps / seconds, "waiting": sum(waits[WARM_UP:]) / seconds}


class _Worker:
    """A side of the benchmark in a process of its own.

    TensorFlow has one pool of threads a process, and each side runs best with another one.
    """

    def __init__(self, side: type, *arguments: Any) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, side, arguments), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self.about = self._receive()
            self._ask(1)  # makes the graph
        except BaseException:
            self.close()
            raise

    def run(self) -> dict[str, float]:
        """A round."""
        return self._ask(STEPS)

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.terminate()
        self._process.join()

    def _ask(self, steps: int) -> dict[str, float]:
        self._connection.send(steps)
        return self._receive()

    def _receive(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError as error:
            raise RLSPError("a process of the benchmark ended; there may be too little memory.") from error
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(connection: Connection, side: type, arguments: tuple[Any, ...]) -> None:
    # What TensorFlow has to say when it starts is no part of the result.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        worker = side(*arguments)
        connection.send(worker.about)
        while True:
            connection.send(worker.run(connection.recv()))
    except (EOFError, BrokenPipeError):
        pass
    except Exception as error:
        connection.send(error if isinstance(error, RLSPError) else RLSPError(repr(error)))


def _summary(what: str, rates: Sequence[float]) -> dict[str, Any]:
    return {"what": what, "steps_per_second": statistics.median(rates), "rounds": list(rates)}


def _machine() -> dict[str, Any]:
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {"processor": processor, "cpus": os.cpu_count(), "load": load, "platform": platform.platform()}
