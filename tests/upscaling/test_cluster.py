"""A cluster of two workers gives what one process gives, whatever dies on the way."""

import os
import socket
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from helpers.commands import run_command
from helpers.networks import SMALL, small_model
from helpers.videos import make_video, packets
from rlsp_tf.cli.main import main
from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.load import load_step
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.serving.serve import serve
from rlsp_tf.system.storage import Storage
from rlsp_tf.upscaling.upscale import Recipe, upscale_clip

ray = pytest.importorskip("ray", reason="needs Ray; install it by: pip install -e '.[ray]'")
ray_engine = pytest.importorskip("rlsp_tf.upscaling.cluster")

pytestmark = [
    # Ray's own, in this process.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
CUTS = frozenset({10, 20, 30, 40, 50})
RECIPE = Recipe(segment=4, warm_start=2, encoder=EncoderOptions(preset="ultrafast"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "net.keras"
    small_model(np.random.default_rng(0), SMALL).save(path)
    return path


@pytest.fixture(scope="module")
def cluster():
    """Two workers on this machine, beside whatever else of Ray there is."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"),
        *("--node-ip-address=127.0.0.1", f"--port={address.rpartition(':')[2]}"),
        *("--include-dashboard=false", "--disable-usage-stats"),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env={**os.environ, **PATHS, "RAY_AUTH_MODE": "disabled"}
    ) as head:
        while not answers(address):
            assert head.poll() is None
            time.sleep(0.1)
        yield address
        head.terminate()


def answers(address):
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


# Workers have to find the functions of this checkout.
PATHS = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@pytest.fixture
def film(tmp_path):
    return make_video(tmp_path / "film.mp4", range(0, 60 * 3600, 3600), size=(32, 24), audio=("aac",))


def once(film, target, model):
    upscale_clip(film, target, load_step(model, precision="float32"), RECIPE, scene_cuts=CUTS)
    return target


def run(sources, folder, model, cluster, **options):
    options = {"recipe": RECIPE, "scene_cuts": CUTS, "length": 10, "precision": "float32"} | options
    return ray_engine.upscale_all([*map(str, sources)], str(folder), str(model), address=cluster, **options)


@pytest.mark.slow
def test_the_result_is_that_of_one_process_and_what_is_corrupt_fails_alone(film, model, cluster, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    second = make_video(tmp_path / "second.mkv", range(0, 25 * 3600, 3600), size=(16, 24))
    failed, _ = run([film, broken, second], tmp_path / "large", model, cluster)
    (sentence,) = failed
    assert sentence.startswith(f"{broken}: not a video that can be read")
    assert (tmp_path / "large" / "film.mp4").read_bytes() == once(
        film, tmp_path / "once.mp4", model
    ).read_bytes()
    assert packets(tmp_path / "large" / "second.mkv", "video") == packets(
        once(second, tmp_path / "once.mkv", model), "video"
    )
    assert {path.name for path in (tmp_path / "large").iterdir()} == {"film.mp4", "second.mkv"}


def workers():
    """Processes at work on a range."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or [""]
        if words[0].startswith("ray::_render"):
            found.append(process)
    return found


@pytest.mark.slow
def test_a_killed_worker_costs_its_range_and_nothing_else(model, cluster, tmp_path):
    film = make_video(tmp_path / "film.mp4", range(0, 60 * 3600, 3600), size=(160, 120))
    code = f"""
import sys
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.upscaling.cluster import upscale_all
from rlsp_tf.upscaling.upscale import Recipe
recipe = Recipe(segment=4, warm_start=2, encoder=EncoderOptions(preset="ultrafast"))
options = dict(scene_cuts=frozenset({sorted(CUTS)}), length=10, precision="float32", address=sys.argv[4])
print(upscale_all([sys.argv[1]], sys.argv[2], sys.argv[3], recipe=recipe, **options)[0])
"""
    command = [sys.executable, "-c", code, str(film), str(tmp_path / "large"), str(model), cluster]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as driver:
        killed = 0
        while driver.poll() is None and not killed:
            for process in workers()[:1]:
                process.kill()
                killed += 1
            time.sleep(0.05)
        said = driver.communicate()[0]
    assert said.splitlines()[-1] == "[]"
    assert killed == 1
    assert (tmp_path / "large" / "film.mp4").read_bytes() == once(
        film, tmp_path / "once.mp4", model
    ).read_bytes()


@pytest.mark.slow
def test_what_is_finished_is_not_done_again(film, model, cluster, tmp_path, monkeypatch):
    """As after the death of everything: a plan and the ranges that were done are there."""
    target = tmp_path / "large" / "film.mp4"
    work = tmp_path / "large" / "film.mp4.rlsp"
    target.parent.mkdir()
    job = ray_engine.Job(
        *(str(film), str(target), model.read_bytes(), "float32", RECIPE, CUTS, None, False, True, 10)
    )
    plan = ray_engine._plan(job)
    for index in (0, 2):
        ray_engine._render(job, plan, index)
    stamps = {path: path.stat().st_mtime_ns for path in work.rglob("*.mp4") if path.is_file()}
    assert stamps
    monkeypatch.setattr(ray_engine, "_WORK", {**ray_engine._WORK, "join": lambda job, plan: []})
    assert run([film], target.parent, model, cluster) == ([], [])
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    monkeypatch.undo()
    # Another recipe is another run.
    ((sentence,), _) = run(
        [film], target.parent, model, cluster, recipe=Recipe(segment=4, encoder=EncoderOptions(crf=30))
    )
    assert "a run with another --crf (18 then, 30 now) was interrupted" in sentence
    assert run([film], target.parent, model, cluster)[0] == []
    assert target.read_bytes() == once(film, tmp_path / "once.mp4", model).read_bytes()
    assert not work.exists()


@pytest.fixture
def bucket(monkeypatch):
    """A store of objects as of Amazon, on this machine."""
    server = pytest.importorskip("moto.server", reason="needs moto[server] and s3fs")
    pytest.importorskip("s3fs", reason="needs s3fs")
    thread = server.ThreadedMotoServer(port=0, verbose=False)
    thread.start()
    host, port = thread.get_host_and_port()
    values = {"key": "test", "secret": "test", "endpoint_url": f"http://{host}:{port}"}
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
    for name, value in zip(names, [*values.values(), "us-east-1"], strict=True):
        monkeypatch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("films")
    yield "s3://films"
    thread.stop()


@pytest.mark.slow
def test_films_in_a_store_of_objects(film, model, bucket, tmp_path):
    """The whole of it: the command, a cluster of its own, and a store."""
    Storage(f"{bucket}/film.mp4").put(film)
    (tmp_path / "cuts.txt").write_text(" ".join(map(str, sorted(CUTS))))
    command = [
        *(
            "upscale",
            f"{bucket}/film.mp4",
            f"{bucket}/none.mp4",
            "--out",
            f"{bucket}/large",
            "--engine",
            "ray",
        ),
        *("--model", str(model), "--precision", "float32", "--preset", "ultrafast", "--warm-start", "2"),
        *("--scene-cuts", str(tmp_path / "cuts.txt")),
    ]
    done = run_command(command, text=True, env={**os.environ, **PATHS})
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"rlsp: error: {bucket}/none.mp4: no such file; check the address."
    )
    result = Storage(f"{bucket}/large/film.mp4").fetch(tmp_path / "cache")
    target = tmp_path / "once.mp4"
    recipe = Recipe(warm_start=2, encoder=EncoderOptions(preset="ultrafast"))
    upscale_clip(film, target, load_step(model, precision="float32"), recipe, scene_cuts=CUTS)
    assert result.read_bytes() == target.read_bytes()
    assert not Storage(f"{bucket}/large/film.mp4.rlsp").exists()


def test_wrong_usage_is_said(film, model, tmp_path, capsys):
    assert main(["upscale", str(film), str(film), str(film)]) == 2
    assert "any number of inputs and --out" in capsys.readouterr().err
    assert main(["upscale", str(film), "x.mp4", "--engine", "ray"]) == 2
    assert "give --out" in capsys.readouterr().err
    assert main(["upscale", str(film), "--out", "x", "--split-shots"]) == 2
    assert "--split-shots needs --engine ray" in capsys.readouterr().err
    ray_options = ["--engine", "ray", "--address", "head:6379", "--workers", "2"]
    assert main(["upscale", str(film), "--out", "x", *ray_options]) == 2
    assert "cannot be combined with --address" in capsys.readouterr().err


@pytest.mark.slow
def test_without_a_cluster_many_inputs_come_one_after_the_other(film, model, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    command = ["upscale", str(tmp_path / "broken.mp4"), str(film), "--out", str(tmp_path / "large")]
    assert main([*command, "--model", str(model), "--preset", "ultrafast"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "broken.mp4: not a video" in line
    assert [path.name for path in (tmp_path / "large").iterdir()] == ["film.mp4"]


@pytest.mark.slow
def test_an_address_where_nothing_answers_is_said(film, model, tmp_path):
    done = run_command(
        [
            *("upscale", film, "--out", tmp_path / "x"),
            *("--engine", "ray", "--address", "127.0.0.1:1", "--model", model),
        ],
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("rlsp: error: 127.0.0.1:1: no Ray cluster answers there")


def test_ray_that_is_not_up_in_time_is_said(monkeypatch):
    def init(**options):
        raise Exception("The current node timed out during startup. It is slow.\nmore")

    monkeypatch.setattr(ray, "init", init)
    sentence = r"Ray cannot start here \(The current node timed out during startup. It is slow\); "
    with pytest.raises(RLSPError, match=f"^{sentence}try again when the machine is less busy, or leave"):
        ray_engine.start_ray(None, 2)
    with pytest.raises(RLSPError, match=f": {sentence}set TMPDIR to a short path with room on the disk, and"):
        serve({"7-48": "7-48"})
