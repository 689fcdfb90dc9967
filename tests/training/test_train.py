import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec

import keras
import numpy as np
import pytest

from helpers.clips import write_folder
from helpers.commands import Command
from helpers.networks import random_weights
from helpers.runs import read_log, state
from helpers.synthetic import make_clip
from rlsp_tf.errors import RLSPError, UsageError
from rlsp_tf.inference.hardware import training_precision
from rlsp_tf.media.degradations import VIDEO, degradation_named
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.network.model import build_model, rlsp_layer
from rlsp_tf.network.weights import load_model
from rlsp_tf.training.build import compile_model
from rlsp_tf.training.centred import network_weights
from rlsp_tf.training.clips.index import index_clips, split_clips
from rlsp_tf.training.clips.mixture import Mixture
from rlsp_tf.training.clips.sampler import ClipSampler
from rlsp_tf.training.loss import WarmUpAndDecay, frame_loss
from rlsp_tf.training.options import TrainingOptions, network_of
from rlsp_tf.training.run_folder import differences
from rlsp_tf.training.train import train
from rlsp_tf.training.validator import Validator

TINY = RLSPConfig(filters=8, layers=3)
QUICK = TrainingOptions(network=TINY, batch=2, frames=3, crop=8, steps=20, every=10, precision="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of clips and a cache for them."""
    folder = tmp_path_factory.mktemp("training")
    write_folder(folder / "data" / "one", make_clip(8, 96, 96))
    write_folder(folder / "data" / "two", make_clip(8, 96, 96, seed=1))
    return folder


def quick(folder, out, options=QUICK, **more):
    return train([folder / "data"], folder / out, options, cache=folder / "cache", **more)


def curve(run):
    """What must not depend on how often a run was interrupted."""
    columns = ("step", "loss", "psnr", "learning_rate", "val_psnr", "val_psnr_state_zeroed")
    return [tuple(row[column] for column in columns) for row in read_log(run)]


@pytest.mark.slow
def test_a_run_that_is_stopped_and_killed_goes_on_as_if_nothing_had_happened(data, tmp_path):
    """From scratch on one real clip, through the command line."""

    def command(out):
        arguments = "train --network 3-8 --crop 16 --frames 3 --batch 2 --steps 80 --every 10 --resume"
        paths = (
            "--data",
            data / "video" / "realshort_320x240.mp4",
            "--out",
            out,
            "--cache",
            tmp_path / "cache",
        )
        return [*arguments.split(), *map(str, paths)]

    def start(out):
        """Always in a process of its own: how threads share the work is decided when TensorFlow starts."""
        return Command(command(out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(out):
        process = start(out)
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        return output

    def interrupt(number, step):
        """Sends a signal to a run when the log has come to a step."""
        process = start(run)
        while process.poll() is None:
            if (run / "log.csv").exists() and (rows := read_log(run)) and int(rows[-1]["step"] or 0) >= step:
                process.send_signal(number)
                break
            time.sleep(0.002)
        _, errors = process.communicate(timeout=120)
        assert read_log(run)[-1]["step"] != "80", "the run was too quick to be interrupted"
        return process.returncode, errors

    whole, run = tmp_path / "whole", tmp_path / "interrupted"
    assert re.search(
        r"(?s)whole: step 80 of 80; best validation \d+\.\d+ dB: \S+best\.keras\n.*: \S+averaged\.keras$",
        finish(whole).strip(),
    )

    code, errors = interrupt(signal.SIGTERM, 14)
    assert code == 1
    stopped = re.search(
        r"stopped by SIGTERM at step (\d+); everything is saved, continue with --resume", errors
    )
    assert read_log(run)[-1]["step"] == stopped[1]
    code, _ = interrupt(signal.SIGKILL, 44)
    assert code == -signal.SIGKILL
    finish(run)

    # Without --precision it is the one that is fastest here.
    assert json.loads((run / "config.json").read_text())["precision"] == training_precision()
    sittings = [json.loads(line)["step"] for line in (run / "sittings.jsonl").read_text().splitlines()]
    assert sittings[:2] == [0, int(stopped[1])]
    assert sittings[2] >= 40
    assert sittings[2] % 10 == 0
    expected, actual = state(whole), state(run)
    assert expected.keys() == actual.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name)
    # Where it was stopped, the log has a row more, and the row after is the mean over fewer steps.
    common = set(curve(whole)) & set(curve(run))
    assert len(common) >= len(curve(whole)) - 1
    validations = [[row[-2:] for row in curve(each) if row[-1]] for each in (whole, run)]
    assert validations[0] == validations[1]
    assert len(validations[0]) == 8
    losses = [float(row["loss"]) for row in read_log(whole)]
    # By an eighth here: Muon begins slowly.
    assert np.mean(losses[-10:]) < 0.95 * np.mean(losses[:10])


@pytest.mark.slow
def test_another_backend_trains_without_tensorflow_and_tensorflow_goes_on(folder, tmp_path):
    """Both see the same clips, so from the same weights both have the same loss."""
    initial = build_model(TINY)
    random_weights(initial, np.random.default_rng(0))
    initial.save(folder / "initial.keras")
    options = replace(QUICK, init=str(folder / "initial.keras"), learning_rate=1e-4, pieces=2)
    quick(folder, "on_tensorflow", options)
    code = f"""if True:
        import sys
        sys.modules["tensorflow"] = None  # importing it fails
        from rlsp_tf.cli.main import main
        sys.exit(main({
        [
            "train",
            "--data",
            str(folder / "data"),
            "--out",
            str(tmp_path / "run"),
            "--cache",
            str(folder / "cache"),
            "--init",
            options.init,
            "--learning-rate",
            "1e-4",
            "--batch",
            "2",
            "--frames",
            "3",
            "--pieces",
            "2",
            "--crop",
            "8",
            "--steps",
            "20",
            "--every",
            "10",
            "--precision",
            "float32",
        ]
    }))"""
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    ours, theirs = read_log(folder / "on_tensorflow"), read_log(tmp_path / "run")
    for row, other in zip(theirs, ours, strict=True):
        assert row["step"] == other["step"]
        # Twenty steps of float32, summed in another order.
        assert float(row["loss"]) == pytest.approx(float(other["loss"]), rel=1e-3)
        assert float(row["learning_rate"]) == pytest.approx(float(other["learning_rate"]))
        for column in ("val_psnr", "val_psnr_state_zeroed"):
            assert bool(row[column]) == bool(other[column])
            if row[column]:
                assert float(row[column]) == pytest.approx(float(other[column]), abs=0.005)
    # What it left, we go on with: the next step is the one that we would have done.
    run = tmp_path / "run"
    longer = replace(options, steps=60)
    with pytest.raises(RLSPError, match="is at step 20, too late to change --steps from 20 to 60"):
        train([folder / "data"], run, longer, cache=folder / "cache", resume=True)
    model, expected = compile_model(options), compile_model(options)
    model.load_weights(run / "last.keras")
    expected.load_weights(folder / "on_tensorflow" / "last.keras")
    assert int(model.optimizer.iterations) == 20
    for variable, other in zip(model.optimizer.variables, expected.optimizer.variables, strict=True):
        scale = np.abs(other.numpy()).max()
        np.testing.assert_allclose(variable.numpy(), other.numpy(), atol=1e-2 * scale, err_msg=variable.path)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("jax") is None, reason="needs JAX")
def test_a_run_whose_samples_are_reused_goes_on_where_it_was_stopped(folder, tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    places = ["--data", folder / "data", "--cache", folder / "cache"]
    options = (
        "--network 3-8 --batch 2 --frames 3 --crop 8 --precision float32 --steps 20 --every 10 --reuse 4"
    )

    def run(out, *more):
        command = [sys.executable, "-m", "rlsp_tf", "train", *places, *options.split(), "--out", out, *more]
        return subprocess.run(
            [*map(str, command)], env=environment, capture_output=True, text=True, check=False
        )

    whole = run(tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    stopped = run(tmp_path / "stopped", "--minutes", "0")
    assert 0 < int(read_log(tmp_path / "stopped")[-1]["step"]) < 20, stopped.stderr
    went_on = run(tmp_path / "stopped", "--resume")
    assert went_on.returncode == 0, went_on.stderr
    expected, actual = state(tmp_path / "whole"), state(tmp_path / "stopped")
    assert expected.keys() == actual.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name)


def test_samples_are_reused_where_that_is_possible(folder):
    with pytest.raises(RLSPError, match="--reuse needs KERAS_BACKEND=jax and a single device; leave it out"):
        quick(folder, "reused", replace(QUICK, reuse=2))
    assert not (folder / "reused").exists()
    with pytest.raises(UsageError, match="--reuse cannot be combined with --pieces; leave one of them out"):
        replace(QUICK, reuse=2, pieces=2)


def test_a_run_holds_all_that_is_needed_to_repeat_it(folder):
    result = quick(folder, "complete")
    run = folder / "complete"
    assert {
        "config.json",
        "clips.json",
        "sittings.jsonl",
        "log.csv",
        "best.keras",
        "last.keras",
        "averaged.keras",
        "sample.png",
        "samples.png",
    } <= {path.name for path in run.iterdir()}
    assert not list(run.glob(".*"))
    config = json.loads((run / "config.json").read_text())
    degradation = degradation_named(config["mixture"]["degradation"]["name"])
    assert degradation.to_dict() == config["mixture"]["degradation"]
    mixture = Mixture(**{**config["mixture"], "degradation": degradation})
    network = RLSPConfig.from_dict(config["network"])
    assert TrainingOptions(**{**config, "network": network, "mixture": mixture}) == QUICK
    clips = json.loads((run / "clips.json").read_text())
    assert [clip["name"] for clip in clips["training"]] == ["one"]
    assert [clip["name"] for clip in clips["validation"]] == ["two"]
    assert all(
        re.fullmatch("[0-9a-f]{64}", clip["sha256"]) for clip in clips["training"] + clips["validation"]
    )
    sitting = json.loads((run / "sittings.jsonl").read_text())
    assert {"step", "time", "python", "keras", "tensorflow", "numpy", "platform", "cpus"} <= sitting.keys()
    assert [row["step"] for row in read_log(run)] == [str(step) for step in range(1, 21)]
    best = max(float(row["val_psnr"]) for row in read_log(run) if row["val_psnr"])
    assert result == {
        "step": 20,
        "steps": 20,
        "best_psnr": best,
        "best": str(run / "best.keras"),
        "averaged": str(run / "averaged.keras"),
    }
    assert rlsp_layer(load_model(run / "best.keras")).config == TINY


MIXED = replace(
    QUICK, mixture=Mixture(photo_share=0.5, flat_share=0.1, degradation=VIDEO, paper_share=0.4), steps=12
)


@pytest.fixture(scope="module")
def photographs(folder):
    for name, size in (("a", (200, 220)), ("b", (150, 160)), ("c", (260, 300))):
        write_folder(folder / "photos" / name, make_clip(1, *size, seed=size[0]))
    return [folder / "photos"]


@pytest.mark.slow
def test_a_mixture_goes_on_where_it_stopped_and_measures_photographs(folder, photographs):
    result = quick(folder, "mixed", MIXED, photographs=photographs)
    assert quick(folder, "mixed_stopped", MIXED, photographs=photographs, minutes=0)["step"] == 1
    quick(folder, "mixed_stopped", MIXED, photographs=photographs, resume=True)
    expected, actual = state(folder / "mixed"), state(folder / "mixed_stopped")
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name)
    rows = [row for row in read_log(folder / "mixed") if row["val_psnr"]]
    assert all(row["val_psnr_photographs_state_zeroed"] for row in rows)
    # The best weights are those with the best mean of clips and photographs, with the state carried.
    means = [(float(row["val_psnr"]) + float(row["val_psnr_photographs"])) / 2 for row in rows]
    assert result["best_psnr"] == pytest.approx(max(means))
    index = json.loads((folder / "mixed" / "clips.json").read_text())
    uses = {use: [each["name"] for each in index[use]] for use in index if use != "notes"}
    assert {use: len(names) for use, names in uses.items()} == {
        "training": 1,
        "validation": 1,
        "training photographs": 2,
        "validation photographs": 1,
    }
    with pytest.raises(RLSPError, match="--photo-share needs photographs; give a folder of them by --photos"):
        quick(folder, "none", MIXED)


@pytest.mark.slow
def test_a_run_of_an_older_version_goes_on(folder):
    """Which had no mixture, no averaged.keras and fewer columns in its log."""
    options = replace(QUICK, steps=1000)
    quick(folder, "older", options, minutes=0)
    run = folder / "older"
    config = json.loads((run / "config.json").read_text())
    del config["mixture"]
    (run / "config.json").write_text(json.dumps(config))
    (run / "averaged.keras").unlink()
    lines = [row.split(",") for row in (run / "log.csv").read_text().splitlines()]
    kept = [index for index, name in enumerate(lines[0]) if "photographs" not in name]
    (run / "log.csv").write_text("".join(",".join(row[i] for i in kept) + "\n" for row in lines))
    assert quick(folder, "older", options, minutes=0, resume=True)["step"] == 2
    assert [row["step"] for row in read_log(run)] == ["1", "2"]


@pytest.mark.slow
def test_a_run_goes_on_in_the_precision_of_another_machine(folder):
    options = replace(QUICK, steps=1000)
    for precision, step in (("float32", 1), ("bfloat16", 2)):
        stopped = quick(folder, "moved", replace(options, precision=precision), minutes=0, resume=True)
        assert stopped["step"] == step
    sittings = (folder / "moved" / "sittings.jsonl").read_text().splitlines()
    assert [json.loads(sitting)["precision"] for sitting in sittings] == ["float32", "bfloat16"]


@pytest.mark.slow
def test_averaged_weights_are_kept_wherever_a_run_ends(folder):
    """After one step, on which no validation falls."""
    assert quick(folder, "short", replace(QUICK, steps=1000), minutes=0)["step"] == 1
    run = folder / "short"
    assert not (run / "best.keras").exists()
    ours = load_model(run / "averaged.keras").get_weights()
    options = replace(QUICK, steps=1000)
    model = compile_model(options)
    model.load_weights(run / "last.keras")
    averages = [variable.numpy() for variable in model.optimizer._model_variables_moving_average]
    assert len(averages) == len(ours)
    for average, weight in zip(network_weights(averages, TINY), ours, strict=True):
        np.testing.assert_array_equal(weight, average)


@pytest.mark.slow
def test_a_signal_cuts_validation_short_which_is_made_up_for(folder, photographs, monkeypatch):
    quick(folder, "validated", MIXED, photographs=photographs)
    carried = Validator.carried

    def interrupted(validator, model):
        os.kill(os.getpid(), signal.SIGTERM)
        return carried(validator, model)

    with monkeypatch.context() as patch:
        patch.setattr(Validator, "carried", interrupted)
        with pytest.raises(RLSPError, match="stopped by SIGTERM at step 10; everything is saved"):
            quick(folder, "validated_later", MIXED, photographs=photographs)
    run = folder / "validated_later"
    assert read_log(run)[-1]["step"] == "10"
    assert read_log(run)[-1]["val_psnr"] == ""
    assert not (run / "best.keras").exists()
    quick(folder, "validated_later", MIXED, photographs=photographs, resume=True)
    assert curve(run) == curve(folder / "validated")


def test_a_signal_is_noticed_after_few_steps_where_they_are_large():
    """Ten steps of the default size are done at once; larger ones take as long in fewer."""
    options = TrainingOptions(network=TINY)
    assert [compile_model(replace(options, crop=crop)).steps_per_execution for crop in (32, 64, 128)] == [
        10,
        2,
        1,
    ]


def test_what_differs_is_named_before_anything_is_overwritten(folder):
    options = replace(QUICK, steps=2)
    quick(folder, "mine", options)
    with pytest.raises(RLSPError, match="mine: holds a run already; give --resume to continue it"):
        quick(folder, "mine", options)
    with pytest.raises(
        RLSPError, match="began with other options: batch was 2 and is now 3; seed was 0 and is now 4"
    ):
        quick(folder, "mine", replace(options, batch=3, seed=4), resume=True)
    with pytest.raises(
        RLSPError, match=r"the clips for training are not those that it began with: one was \"\w+\""
    ):
        train([folder / "data" / "two"], folder / "mine", options, cache=folder / "cache", resume=True)
    (folder / "mine" / "last.keras").write_bytes(b"not a checkpoint")
    with pytest.raises(RLSPError, match=r"last\.keras: is damaged"):
        quick(folder, "mine", options, resume=True)


@pytest.mark.slow
def test_pieces_and_a_curriculum_go_on_in_the_middle_of_a_sequence(folder):
    """Stopped after one of three pieces: the state is in the checkpoint, and the next step is the second."""
    options = replace(QUICK, frames=2, pieces=3, curriculum=12)
    quick(folder, "pieces", options)
    assert quick(folder, "pieces_stopped", options, minutes=0)["step"] == 1
    assert np.abs(state(folder / "pieces_stopped")["layers/carried_rlsp/vars/0"]).max() > 0
    quick(folder, "pieces_stopped", options, resume=True)
    expected, actual = state(folder / "pieces"), state(folder / "pieces_stopped")
    assert expected.keys() == actual.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name)
    assert rlsp_layer(load_model(folder / "pieces" / "averaged.keras")).config == TINY


@pytest.mark.slow
def test_steps_that_are_done_at_once_are_the_same(folder):
    """With a row of the log for every fifth step, five are done at once, and three at the end."""
    one_by_one, at_once = (replace(QUICK, steps=18, every=every) for every in (10, 50))
    quick(folder, "one_by_one", one_by_one)
    assert quick(folder, "at_once", at_once, minutes=0)["step"] == 5
    quick(folder, "at_once", at_once, resume=True)
    assert [row["step"] for row in read_log(folder / "at_once")] == ["5", "10", "15", "18"]
    expected, actual = state(folder / "one_by_one"), state(folder / "at_once")
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name)


@pytest.mark.slow
def test_a_run_that_does_not_decay_yet_can_be_made_longer(folder):
    options = replace(QUICK, steps=1000)
    assert quick(folder, "longer", options, minutes=0)["step"] == 1
    assert quick(folder, "longer", replace(options, steps=2000), minutes=0, resume=True)["step"] == 2
    assert json.loads((folder / "longer" / "config.json").read_text())["steps"] == 2000


def test_a_loss_that_is_not_a_number_stops_and_keeps_its_batch(folder):
    broken = build_model(TINY)
    broken.set_weights([np.full_like(weight, np.nan) for weight in broken.get_weights()])
    broken.save(folder / "broken.keras")
    with pytest.raises(
        RLSPError, match=r"not finite at step 1; its batch was saved as not_a_number_step_1\.npz"
    ):
        quick(folder, "broken", replace(QUICK, init=str(folder / "broken.keras")))
    training, _ = split_clips(index_clips([folder / "data"], cache=folder / "cache")[0], None)
    lr, hr = ClipSampler(training, batch=2, frames=3, crop=8, seed=0).samples(0)
    with np.load(folder / "broken" / "not_a_number_step_1.npz") as kept:
        np.testing.assert_array_equal(kept["lr"], lr)
        np.testing.assert_array_equal(kept["hr"], hr)
    assert not (folder / "broken" / "last.keras").exists()


def test_weights_depend_on_the_seed_alone():
    first, same, other = (compile_model(replace(QUICK, seed=seed)).get_weights() for seed in (3, 3, 4))
    for ours, theirs in zip(first, same, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(first[0], other[0])


@pytest.mark.slow
def test_fine_tuning_begins_with_the_weights_of_a_file(folder):
    initial = build_model(replace(TINY, output="rgb"))
    initial.save(folder / "rgb.keras")
    options = replace(
        QUICK, network=network_of(None, None, str(folder / "rgb.keras")), init=str(folder / "rgb.keras")
    )
    assert options.network == replace(TINY, output="rgb")
    weights = network_weights(compile_model(options).get_weights(), options.network)
    for ours, theirs in zip(weights, initial.get_weights(), strict=True):
        # Biases change their coordinates twice.
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-4)
    assert quick(folder, "tuned", replace(options, steps=2))["step"] == 2
    with pytest.raises(RLSPError, match=r"rgb\.keras: is another network"):
        compile_model(replace(options, network=TINY))


def test_the_network_is_that_of_the_command_line_then_of_the_file_then_7_48(folder, tmp_path):
    build_model(TINY).save(tmp_path / "tiny.keras")
    assert network_of(None, None, None) == RLSPConfig(filters=48)
    assert network_of("7-64", "rgb", None) == RLSPConfig(filters=64, output="rgb")
    assert network_of(None, None, str(tmp_path / "tiny.keras")) == TINY
    assert network_of("7-64", None, str(tmp_path / "tiny.keras")) == RLSPConfig(filters=64)


def test_the_loss_is_the_mean_squared_error_of_luma_or_rgb(rng):
    hr = rng.integers(0, 256, (2, 3, 8, 8, 3)).astype(np.uint8)
    output = rng.uniform(0, 255, (2, 3, 8, 8, 1)).astype(np.float32)
    truth = (hr.astype(float) @ [65.738, 129.057, 25.064])[..., None] / 256 + 16
    assert float(frame_loss(hr, output)) == pytest.approx(np.mean((truth - output) ** 2), rel=1e-5)
    output = rng.uniform(0, 255, hr.shape).astype(np.float32)
    assert float(frame_loss(hr, output)) == pytest.approx(np.mean((hr.astype(float) - output) ** 2), rel=1e-5)


def test_the_learning_rate_rises_stays_and_falls():
    schedule = WarmUpAndDecay(1e-3, 10_000)
    expected = {0: 5e-6, 99: 5e-4, 200: 1e-3, 7500: 1e-3, 8750: 5e-4, 9999: 5e-6}
    for step, rate in expected.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-3)
    copy = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert float(copy(8000)) == float(schedule(8000))


def test_options_out_of_range_are_refused():
    for name, value in (
        *(("batch", 0), ("frames", 1), ("pieces", 0), ("curriculum", -1), ("crop", 7)),
        *(("steps", 0), ("seed", -1), ("every", 0)),
    ):
        with pytest.raises(RLSPError, match=f"--{name} must be at least"):
            TrainingOptions(**{name: value})
    with pytest.raises(RLSPError, match="--learning-rate must be between 0 and 1"):
        TrainingOptions(learning_rate=0.0)


def test_differences_are_named():
    assert differences({"a": 1, "b": {"c": [1, 2]}}, {"a": 1, "b": {"c": [1, 3]}, "d": None}) == [
        "b.c was [1, 2] and is now [1, 3]"
    ]
