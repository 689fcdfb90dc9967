"""Training on several devices and in several processes: the weights of one, whatever ends in between."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
import pytest

from helpers.clips import write_folder
from helpers.runs import read_log, state
from helpers.synthetic import make_clip
from rlsp_tf.errors import RLSPError, UsageError
from rlsp_tf.training.workers.group import Group
from rlsp_tf.training.workers.join import ADDRESS, WORKER, WORKERS, workers_named
from rlsp_tf.training.workers.on_tensorflow import TensorFlowGroup

needs_jax = pytest.mark.skipif(find_spec("jax") is None, reason="needs JAX")
STEPS = 50


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("group")
    write_folder(folder / "data" / "one", make_clip(8, 96, 96))
    write_folder(folder / "data" / "two", make_clip(8, 96, 96, seed=1))
    return folder


def start(folder, out, *more, code="", **environment):
    """A worker, or a process that trains for itself."""
    # A small learning rate, or a difference in the last bit grows with every step.
    options = "--network 3-8 --crop 8 --frames 2 --batch 4 --every 10 --learning-rate 1e-5 --resume"
    paths = ["--data", folder / "data", "--cache", folder / "cache", "--out", folder / out]
    words = ["train", *options.split(), "--precision", "float32", "--steps", STEPS, *paths, *more]
    if not code:
        code = "sys.modules['tensorflow'] = None"  # importing it fails
        environment = {
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            # Most of the time goes into compiling the same programs again.
            "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            **environment,
        }
    code = f"import sys\n{code}\nfrom rlsp_tf.cli.main import main\nsys.exit(main({list(map(str, words))}))"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_two(folder, out, *more):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    return [
        start(folder, out, *more, **{ADDRESS: address, WORKERS: "2", WORKER: str(worker)})
        for worker in range(2)
    ]


def finish(*processes):
    """What they print, if all goes well."""
    outputs = [process.communicate(timeout=120) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    return [output for output, _ in outputs]


def assert_same_weights(run, expected):
    """Two halves of a sum instead of a whole one: every step rounds otherwise in the last of 24 bits.

    In 50 steps that comes to less than 1e-6 of the largest number in an array. Gradients that are
    added up instead of averaged, or clipped before they are added up, would be off by parts in ten.
    """
    actual, expected = state(run), state(expected)
    assert actual.keys() == expected.keys()
    assert any("optimizer" in name for name in actual)
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, rtol=0, atol=1e-5 * np.abs(array).max(), err_msg=name)


@pytest.fixture(scope="module")
def one(folder):
    """The run of a single process with a single device."""
    finish(start(folder, "one", "--pieces", "2"))
    return folder / "one"


@pytest.fixture(scope="module")
def two(folder):
    """The run of two workers, and what they print."""
    return folder / "two", finish(*start_two(folder, "two", "--pieces", "2"))


@pytest.mark.slow
@needs_jax
def test_two_workers_give_the_weights_of_one_with_the_whole_batch(one, two):
    run, (first, second) = two
    assert_same_weights(run, one)
    # Carried from piece to piece, for the whole batch: half of it is in either worker.
    assert state(run)["layers/carried_rlsp/vars/0"].shape[0] == 4
    for ours, theirs in zip(read_log(run), read_log(one), strict=True):
        for column in ("loss", "val_psnr"):
            assert bool(ours[column]) == bool(theirs[column])
            assert float(ours[column] or 0) == pytest.approx(float(theirs[column] or 0), rel=1e-4)
    assert re.fullmatch(
        r".*two: step 50 of 50; best validation \d+\.\d+ dB: .*best\.keras\n.*averaged\.keras\n", first
    )
    assert re.fullmatch(r".*two: step 50 of 50\n", second)


@pytest.mark.slow
@needs_jax
def test_a_killed_worker_ends_the_others_and_the_same_commands_go_on(folder, two):
    """Worker 0, without which the engine aborts the others; before, a signal stops all at the same step."""
    run = folder / "interrupted"

    def interrupt(worker, number, step):
        """Sends a signal to a worker when the log has come to a step; gives what each says at last."""
        workers = start_two(folder, run.name, "--pieces", "2")
        while not (run / "log.csv").exists() or not (rows := read_log(run)) or int(rows[-1]["step"]) < step:
            assert workers[0].poll() is None, workers[0].communicate()
            time.sleep(0.002)
        workers[worker].send_signal(number)
        errors = [each.communicate(timeout=120)[1] for each in workers]
        assert not any("Traceback" in each for each in errors)
        assert int(read_log(run)[-1]["step"]) < STEPS, "the run was too quick to be interrupted"
        return [each.returncode for each in workers], [each.strip().splitlines()[-1] for each in errors]

    codes, last = interrupt(1, signal.SIGTERM, 10)
    step = read_log(run)[-1]["step"]
    assert f"stopped by a signal to another worker at step {step}; everything is saved" in last[0]
    assert f"stopped by SIGTERM at step {step}; everything is saved" in last[1]
    assert codes == [1, 1]

    codes, last = interrupt(0, signal.SIGKILL, 30)
    assert last[1].startswith("rlsp: error: another worker has ended or did not connect; start all of them")
    assert codes == [-signal.SIGKILL, 1]

    finish(*start_two(folder, run.name, "--pieces", "2"))
    expected, actual = state(two[0]), state(run)
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name)


@pytest.mark.slow
@needs_jax
def test_a_process_uses_all_its_devices(folder, one):
    flags = "--xla_force_host_platform_device_count=2"
    finish(start(folder, "two_devices", "--pieces", "2", XLA_FLAGS=flags))
    assert_same_weights(folder / "two_devices", one)


@pytest.mark.slow
def test_tensorflow_uses_all_its_devices(folder):
    code = """if True:
        import tensorflow as tf
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * {})"""
    runs = [folder / name for name in ("tf_one", "tf_two")]
    finish(
        *(
            start(folder, run.name, "--steps", "20", code=code.format(count))
            for count, run in enumerate(runs, 1)
        )
    )
    assert_same_weights(runs[1], runs[0])


def test_on_tensorflow_only_one_device_carries_pieces():
    group = TensorFlowGroup(["/CPU:0"])
    group.devices = 2
    group.check_batch(4, 1)
    with pytest.raises(
        RLSPError, match="--pieces 2 needs a single device with TensorFlow, but there are 2; set KERAS_BACK"
    ):
        group.check_batch(4, 2)


@pytest.mark.slow
@needs_jax
def test_workers_with_different_options_end_before_anything_is_written(folder):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    workers = [
        start(
            folder,
            "different",
            *("--seed", str(worker)),
            **{ADDRESS: address, WORKERS: "2", WORKER: str(worker)},
        )
        for worker in range(2)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 1
        assert "the workers have different options" in errors or "another worker has ended" in errors
    assert not (folder / "different").exists()


def test_a_group_is_named_completely_or_not_at_all():
    good = {"KERAS_BACKEND": "jax", ADDRESS: "first:9000", WORKERS: "3", WORKER: "2"}
    assert workers_named({}) == 1
    assert workers_named(good) == 3
    assert workers_named({**good, ADDRESS: "first:9000,second:9000,third:9000"}) == 3
    for change, words in (
        ({ADDRESS: ""}, f"{ADDRESS} is not set, but {WORKERS} is"),
        ({WORKER: "3"}, f"{WORKER} must be a number from 0 to {WORKERS} - 1, not '3' of '3'"),
        ({WORKERS: "two"}, "not '2' of 'two'"),
        ({ADDRESS: "first"}, f"{ADDRESS} must be HOST:PORT, not 'first'"),
        ({"KERAS_BACKEND": "tensorflow"}, f"{WORKERS} needs JAX; also set KERAS_BACKEND=jax"),
    ):
        with pytest.raises(UsageError, match=re.escape(words)):
            workers_named({**good, **change})


def test_a_batch_has_to_be_divisible_among_the_devices():
    group = Group()
    group.devices = 3
    group.check_batch(6, 1)
    with pytest.raises(RLSPError, match="--batch 8 cannot be divided among 3 devices; give a multiple"):
        group.check_batch(8, 1)


def test_different_texts_are_told_apart():
    class Two(Group):
        """Where the other worker always gives the same number."""

        def __init__(self, other):
            self.other = other

        def largest(self, number):
            return max(number, self.other if number >= 0 else -self.other)

    seen = []
    other = Group()
    other.largest = lambda number: seen.append(number) or number
    other.check_same("options", "batch 8")
    Two(seen[0]).check_same("options", "batch 8")
    for text in ("batch 9", "", "seed 3"):
        with pytest.raises(RLSPError, match="the workers have different options"):
            Two(seen[0]).check_same("options", text)
