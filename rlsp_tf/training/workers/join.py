"""Finds the group of workers that this process belongs to, from the environment variables of Keras."""

import os
from collections.abc import Mapping

from rlsp_tf.errors import UsageError
from rlsp_tf.training.workers.group import Group

ADDRESS = "KERAS_DISTRIBUTION_JOB_ADDRESSES"
WORKERS = "KERAS_DISTRIBUTION_NUM_PROCESSES"
WORKER = "KERAS_DISTRIBUTION_PROCESS_ID"


def workers_named(environment: Mapping[str, str] = os.environ) -> int:
    """Returns the number of workers according to environment variables; 1 if they are not set.

    Args:
        environment: the environment variables.

    Raises:
        UsageError: if a variable is missing or invalid, or if the backend is not JAX.
    """
    given = {name: environment[name] for name in (ADDRESS, WORKERS, WORKER) if environment.get(name)}
    if not given:
        return 1
    missing = [name for name in (ADDRESS, WORKERS, WORKER) if name not in given]
    if missing:
        raise UsageError(f"{missing[0]} is not set, but {next(iter(given))} is; set all three or none.")
    workers, worker = given[WORKERS], given[WORKER]
    if not (workers.isdecimal() and worker.isdecimal() and int(worker) < int(workers)):
        raise UsageError(f"{WORKER} must be a number from 0 to {WORKERS} - 1, not {worker!r} of {workers!r}.")
    _, colon, port = given[ADDRESS].split(",")[0].rpartition(":")
    if not (colon and port.isdecimal()):
        raise UsageError(f"{ADDRESS} must be HOST:PORT, not {given[ADDRESS]!r}.")
    if int(workers) > 1 and environment.get("KERAS_BACKEND", "tensorflow") != "jax":
        raise UsageError(f"{WORKERS} needs JAX; also set KERAS_BACKEND=jax.")
    return int(workers)


def join_group() -> Group:
    """Returns the group that this process belongs to, after all workers have connected.

    Has to be called once, before anything is computed.

    Raises:
        UsageError: if environment variables are missing or invalid; see :func:`workers_named`.
        WorkerGone: if another worker has not connected after five minutes.
    """
    workers = workers_named()
    # Otherwise JAX would handle SIGTERM itself. It reads this when it is imported.
    os.environ.setdefault("JAX_ENABLE_PREEMPTION_SERVICE", "false")
    import keras

    backend = keras.backend.backend()
    if backend == "jax":
        from rlsp_tf.training.workers.on_jax import JaxGroup, meet

        if workers > 1:
            meet()
        return JaxGroup() if keras.distribution.get_device_count() > 1 else Group()
    if backend == "tensorflow":
        from rlsp_tf.training.workers.on_tensorflow import TensorFlowGroup, local_devices

        devices = local_devices()
        return TensorFlowGroup(devices) if len(devices) > 1 else Group()
    return Group()
