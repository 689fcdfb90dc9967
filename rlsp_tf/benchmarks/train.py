"""Measures how fast training is, compared with the training graph that the paper's authors published."""

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
"""Samples, frames and low-resolution crop of a training step, for which the authors' graph is made."""
ROUNDS = 7
STEPS = 20
"""Steps of each contender in a round."""
WARM_UP = 10
"""Additional steps in every round that do not count: threads wake up and the pipeline fills. It is the number
of steps that rlsp_tf computes in one call (:data:`rlsp_tf.training.build.STEPS_AT_ONCE`), so that the time is
taken right after them."""


def benchmark_train(
    authors: str | os.PathLike[str],
    data: Sequence[str | os.PathLike[str]],
    *,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Measures training steps per second of the authors' graph and of rlsp_tf, in turn.

    Both do the same work: batches of 4 samples of 10 frames of 32x32 low-resolution pixels, the forward
    pass, back-propagation through time, and a step of the optimizer. The authors' graph runs in float32, as
    it was made, with Adam, and is fed from memory. rlsp_tf runs as in ``rlsp train``: in the precision that
    is fastest here, with its own optimizer, with clips sampled at the same time, gradients clipped and
    weights averaged. Each has a process of its own and rests while the other works.

    Args:
        authors: the ``.meta`` file of one of the authors' checkpoints; its size decides the network.
        data: clips to train on; see :func:`rlsp_tf.training.clips.index.index_clips`.
        cache: folder for prepared clips; by default :func:`rlsp_tf.training.clips.index.default_cache`.
        progress: show on standard error how far it is.
        command: the command line to record in the result.

    Returns:
        :func:`rlsp_tf.benchmarks.harness.heading`, and::

            {"step": description of a step, "network",
             "authors", "ours": {"what": description, "steps_per_second": median, "rounds": [...]},
             "ratio": how many times as fast rlsp_tf is, median over the rounds,
             "waiting": share of the time that rlsp_tf waited for clips}

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
            worker.call("run", 1, WARM_UP)  # builds the graph
        rounds = take_turns([theirs, ours], ROUNDS, STEPS, WARM_UP, progress=progress)
    finally:
        for each in (theirs, ours):
            if each is not None:
                each.close()
    their_rates, own_rates = ([each["rate"] for each in turns] for turns in rounds)
    return result | {
        "step": f"batch {BATCH}, {FRAMES} frames, {CROP}x{CROP} low-resolution pixels",
        "network": f"7-{theirs.about['filters']}",
        "authors": _summary("the authors' graph, float32, fed from memory", their_rates),
        "ours": _summary(f"rlsp train, {ours.about['precision']}, clips sampled meanwhile", own_rates),
        "ratio": ratio(own_rates, their_rates),
        "waiting": statistics.median(each["waiting"] for each in rounds[1]),
    }


class AuthorsTraining:
    """The authors' training graph, from the ``.meta`` file of a checkpoint, fed from memory.

    Args:
        meta: the file. The weights beside it are not needed, since speed does not depend on them.

    Attributes:
        about: ``{"filters"}``: number of filters of the network.

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
                    # The first and the last frame have a neighbour each.
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
                f"{meta}: holds no training graph of the paper's authors; give a checkpoint's .meta file."
            ) from error
        self.about = {"filters": filters}
        self._session = tf.compat.v1.Session(graph=graph)
        self._session.run(begin)

    def run(self, steps: int, warm_up: int) -> dict[str, float]:
        """Trains for some steps after ``warm_up`` others; returns ``{"rate"}`` in steps per second."""
        for step in range(warm_up + steps):
            if step == warm_up:
                began = time.perf_counter()
            self._session.run(self._step, self._feed)
        return {"rate": steps / (time.perf_counter() - began)}


class OurTraining:
    """Training as in ``rlsp train``, without checkpoints and validation.

    Args:
        filters: number of filters of the network.
        roots: folders of clips; see :func:`rlsp_tf.training.clips.index.index_clips`.
        cache: folder for prepared clips.
    """

    def __init__(self, filters: int, roots: list[str], cache: str | None) -> None:
        prepare_training(BATCH)
        from rlsp_tf.inference.hardware import training_precision
        from rlsp_tf.network.config import RLSPConfig
        from rlsp_tf.training.build import compile_model
        from rlsp_tf.training.material import clip_sampler
        from rlsp_tf.training.options import TrainingOptions

        precision = training_precision()
        self.about: dict[str, Any] = {"precision": precision}
        clips, _ = index_clips(roots, cache=cache)
        options = TrainingOptions(
            network=RLSPConfig(filters=filters), batch=BATCH, frames=FRAMES, crop=CROP, precision=precision
        )
        self._sampler = clip_sampler(clips, options)
        self._model = compile_model(options)
        self._step = 0

    def run(self, steps: int, warm_up: int) -> dict[str, float]:
        """Trains for some steps after ``warm_up`` others.

        Returns:
            ``{"rate", "waiting"}``: steps per second, and the share of the time that training waited for
            clips.
        """
        import keras

        from rlsp_tf.training.feed import feed

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
