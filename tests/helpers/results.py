"""Results of benchmarks as their JSON files have them."""

from rlsp_tf.benchmarks.harness import heading


def step_result(name, *, milliseconds=10.0, sizes=()):
    """A result of ``rlsp benchmark step`` in numbers that are easy to find again."""

    def times(middle):
        return {"milliseconds": middle, "rounds": [middle - 1, middle, middle + 2]}

    contenders = [
        {"name": "rlsp_tf float32", "precision": "float32", "difference": 0.0, "cost": 0.0},
        {"name": "rlsp_tf bfloat16", "precision": "bfloat16", "difference": 0.5, "cost": 0.004},
        {"name": "authors' graph", "precision": "float32", "difference": 2e-4, "cost": 0.0},
    ]
    points = [
        {"width": width, "height": height, "name": own, **times(milliseconds * width * height / 1e4)}
        for width, height in sizes
        for own in ("rlsp_tf float32", "rlsp_tf bfloat16")
    ]
    return heading("step", f"rlsp benchmark step --network {name}") | {
        "size": [480, 270],
        "steps": 10,
        "warm_up": 3,
        "limits": {"float32": "0.001 grey levels", "bfloat16": "0.05 dB", "int8": "0.5 dB"},
        "left_out": [{"name": "OpenVINO int8", "reason": "nncf not installed"}],
        "networks": [
            {
                "network": name,
                "weights": "random",
                "contenders": [each | times(milliseconds * n) for n, each in enumerate(contenders, 1)],
                "left_out": [{"name": "someone", "reason": "some | reason"}],
                "ratios": [{"of": "rlsp_tf bfloat16", "to": "authors' graph", "ratio": 3.456}],
                "sizes": points,
            }
        ],
    }


def train_result():
    sides = {
        name: {"what": f"what {name} does", "steps_per_second": rate, "rounds": [rate, rate + 1]}
        for name, rate in (("authors", 5.0), ("ours", 9.0))
    }
    about = {"network": "7-48", "step": "batch 4", "ratio": 1.75, "waiting": 0.012}
    return heading("train", "rlsp benchmark train") | about | sides
