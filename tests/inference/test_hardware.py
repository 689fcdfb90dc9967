import pytest
import tensorflow as tf

from helpers.networks import small_model
from rlsp_tf.inference import hardware as precision
from rlsp_tf.inference.hardware import computes_int8, cpu_flags, fastest_precision, training_precision
from rlsp_tf.inference.load import load_step


@pytest.fixture(autouse=True)
def _forget():
    fastest_precision.cache_clear()
    yield
    fastest_precision.cache_clear()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx512f", "float32"), ("fpu avx512_bf16 avx512f", "bfloat16"), ("fpu amx_bf16", "bfloat16")],
)
def test_the_processor_is_asked(tmp_path, monkeypatch, flags, expected):
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nmodel name\t: Some\nflags\t\t: {flags}\nbugs\t\t: amx_bf16_bug\n")
    monkeypatch.setattr(precision, "Path", lambda path: file)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert cpu_flags() == set(flags.split())
    assert fastest_precision() == expected


def test_without_cpuinfo_it_is_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "Path", lambda path: tmp_path / "missing")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert fastest_precision() == "float32"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("avx", False), ("avx avx2", True), ("avx512f avx512_vnni", True), ("amx_int8", True)],
)
def test_whether_it_multiplies_bytes_is_asked_too(tmp_path, monkeypatch, flags, expected):
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n")
    monkeypatch.setattr(precision, "Path", lambda path: file)
    assert computes_int8() is expected


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [([(9, 0)], "bfloat16"), ([(9, 0), (7, 5)], "float16"), ([(6, 1)], "float32"), ([None], "float32")],
)
def test_the_oldest_gpu_decides(monkeypatch, capabilities, expected):
    details = [{} if each is None else {"compute_capability": each} for each in capabilities]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(range(len(details))))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.__getitem__)
    assert fastest_precision() == expected
    assert training_precision() == ("float32" if expected == "float16" else expected)


def test_models_are_loaded_in_it_where_auto_is_asked_for(tmp_path, rng, monkeypatch):
    small_model(rng, precision="float32").save(tmp_path / "m.keras")
    monkeypatch.setattr("rlsp_tf.inference.load.fastest_precision", lambda: "bfloat16")
    assert load_step(tmp_path / "m.keras", precision="auto").itemsize == 2
    assert load_step(tmp_path / "m.keras").itemsize == 4
