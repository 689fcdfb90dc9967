"""How fast training is, beside what the paper's authors have published."""

import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlsp_tf.benchmarks.harness import Worker, heading, ratio, take_turns
from rlsp_tf.errors import RLSPError
from rlsp_tf.training.clips.index import index_clips
from rlsp_tf.training.cpu import prepare_training

BATCH, FRAMES, CROP = 4, 10, 32
"""Of a training step: what the authors' graph is made for."""
ROUNDS = 7
STEPS = 20
"""Of a round, for either."""
WARM_UP = 10
"""Steps more, of every round, that do not count: threads wake up, and the pipeline fills. As many as ours
does at once (:data:`rlsp_tf.training.train.AT_ONCE`), so that the clock is looked at after them."""


def benchmark_train(
    authors: str | os.PathLike[str],
    data: Sequence[str | os.PathLike[str]],
    *,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Training steps per second: the authors' own graph, and ours, in turn.

    Both do the same work: batches of 4 samples of 10 frames of 32x32 low-resolution pixels, forward,
    back-propagation through time, Adam. Theirs runs in float32 as it was made, fed from memory. Ours
    is what ``rlsp train`` does, in bfloat16, with clips sampled meanwhile, gradients clipped and weights
    averaged. Each has a process of its own and rests while the other works.

    Args:
        authors: the ``.meta`` file of a checkpoint of theirs; its size decides the network.
        data: clips to train on; see :func:`rlsp_tf.training.clips.index.index_clips`.
        cache: for clips made ready.
        progress: show a progress bar on standard error.
        command: what to note as the command behind the result.

    Returns:
        :func:`rlsp_tf.benchmarks.harness.heading`, and under ``"authors"`` and
        ``"ours"`` ``"steps_per_second"``, the median of the rounds, and each of them; ``"ratio"``, ours to
        theirs, in the median of the rounds; ``"waiting"``, the share of our time spent waiting for clips.

    Raises:
        RLSPError: if the graph or the clips cannot be used.
    """
    result = heading("train", command)
    roots = [os.fspath(root) for root in data]
    theirs = Worker("the authors' graph", AuthorsTraining, os.fspath(authors))
    ours = None
    try:
        index_clips(roots, cache=cache, progress=progress)
        ours = Worker("rlsp train", OurTraining, theirs.about["filters"], roots, cache)
        for worker in (theirs, ours):
            worker.call("run", 1, WARM_UP)  # makes the graph
        rounds = take_turns([theirs, ours], ROUNDS, STEPS, WARM_UP, progress=progress)
    finally:
        for each in (theirs, ours):
            if each is not None:
                each.close()
    their_rates, own_rates = ([each["rate"] for each in turns] for turns in rounds)
    return result | {
        "step": f"batch {BATCH}, {FRAMES} frames, {CROP}x{CROP} low-resolution pixels",
        "network": f"7-{theirs.about['filters']}",
        "authors": _summary("their graph, float32, fed from memory", their_rates),
        "ours": _summary("rlsp train, bfloat16, clips sampled meanwhile", own_rates),
        "ratio": ratio(own_rates, their_rates),
        "waiting": statistics.median(each["waiting"] for each in rounds[1]),
    }


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

    def run(self, steps: int, warm_up: int) -> dict[str, float]:
        """Does some steps after some that do not count; gives ``{"rate"}`` in steps per second."""
        for step in range(warm_up + steps):
            if step == warm_up:
                began = time.perf_counter()
            self._session.run(self._step, self._feed)
        return {"rate": steps / (time.perf_counter() - began)}


class OurTraining:
    """Training as ``rlsp train`` does it, without checkpoints and validation.

    Args:
        filters: of the network.
        roots, cache: see :func:`rlsp_tf.training.clips.index.index_clips`.
    """

    def __init__(self, filters: int, roots: list[str], cache: str | None) -> None:
        prepare_training(BATCH)
        from rlsp_tf.network.config import RLSPConfig
        from rlsp_tf.training.train import TrainingOptions, compile_model

        self.about: dict[str, Any] = {}
        clips, _ = index_clips(roots, cache=cache)
        options = TrainingOptions(
            network=RLSPConfig(filters=filters), batch=BATCH, frames=FRAMES, crop=CROP, precision="bfloat16"
        )
        self._sampler = options.clip_sampler(clips)
        self._model = compile_model(options)
        self._step = 0

    def run(self, steps: int, warm_up: int) -> dict[str, float]:
        """Likewise; gives ``{"rate", "waiting"}``: steps per second, share of time spent waiting."""
        import keras

        from rlsp_tf.training.train import feed

        ticks: dict[int, float] = {}
        waits: list[float] = []
        first, self._step = self._step, self._step + warm_up + steps
        tick = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: ticks.update({batch + 1: time.perf_counter()})
        )
        with feed(self._sampler, first, self._step, waits) as batches:
            self._model.fit(batches, callbacks=[tick], verbose=0)
        seconds = max(ticks.values()) - ticks[warm_up]
        return {"rate": steps / seconds, "waiting": sum(waits[warm_up:]) / seconds}


def _summary(what: str, rates: Sequence[float]) -> dict[str, Any]:
    return {"what": what, "steps_per_second": statistics.median(rates), "rounds": list(rates)}
