"""What a network gives on the backend of Keras of this process, so that backends can be compared.

``python -m helpers.on_backend FOLDER`` runs it without TensorFlow.
"""

import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from helpers.synthetic import make_clip

SIZE = (23, 30)


def results(folder: Path) -> dict[str, np.ndarray]:
    """Runs ``folder/m.keras`` in all ways that commands run networks; arrays by names."""
    import keras

    from rlsp_tf.cli.main import main
    from rlsp_tf.inference.backend import to_array, to_tensor
    from rlsp_tf.inference.divergence import is_far
    from rlsp_tf.inference.load import load_step
    from rlsp_tf.inference.recurrent_stream import RecurrentStream
    from rlsp_tf.inference.resumed import ResumedStep, Stretch
    from rlsp_tf.inference.strips import StripStep
    from rlsp_tf.inference.upscaler import StreamingUpscaler
    from rlsp_tf.network.weights import load_model
    from rlsp_tf.pixels.color import ColorSpec

    clip = make_clip(6, *SIZE)
    frames = [to_tensor(frame[None], "float32") for frame in clip]

    def streamed(step, warm_start=0):
        stream = RecurrentStream(step, warm_start=warm_start)
        outputs = [output for frame in frames for output in stream.push(frame)]
        return [*outputs, *stream.flush()]

    found = {}
    for precision in ("float32", "bfloat16"):
        model = load_model(folder / "m.keras", precision=precision)
        found[f"whole {precision}"] = to_array(model(clip[None]))[0]
        step = load_step(folder / "m.keras", precision=precision)
        outputs = streamed(step)
        found[f"stream {precision}"] = np.concatenate([to_array(output) for output in outputs])
        found[f"far {precision}"] = np.array(
            [is_far(output, frame, step.config) for output, frame in zip(outputs, frames, strict=True)]
        )
        found[f"strips {precision}"] = np.concatenate(list(map(to_array, streamed(StripStep(step, 6)))))
        first = ResumedStep(step)
        stream = RecurrentStream(first)
        for frame in frames[:4]:
            list(stream.push(frame))  # three steps
        kept = [np.array(array, np.float32) for array in first.kept()]
        for frame in frames[4:]:
            list(stream.push(frame))  # may overwrite a state, but not what was kept
        again = ResumedStep(step, [Stretch(3, None, lambda kept=kept: kept)])
        # Before the rest comes the frame of the step before, which the saved state holds.
        _, *rest = [each for each in streamed(again) if each is not None]
        found[f"resumed {precision}"] = np.concatenate(list(map(to_array, rest)))
    found["warm float32"] = np.concatenate(
        list(map(to_array, streamed(load_step(folder / "m.keras", precision="float32"), warm_start=3)))
    )
    deep = ColorSpec("bt709", False, depth=10)
    for name, source, target in (
        ("rgb", None, None),
        ("10 bits", deep, deep),
        ("to 8 bits", None, ColorSpec("bt601", True)),
    ):
        upscaler = StreamingUpscaler(load_model(folder / "m.keras"), source=source, target=target)
        given = list(clip)
        if source:
            wide = [frame.astype(np.uint16) * 4 for frame in clip]  # from below black to above white
            given = [(frame[..., 0], frame[::2, ::2, 1], frame[::2, ::2, 2]) for frame in wide]
        large = [output for frame in given for output in upscaler.push(frame)] + upscaler.flush()
        planes = zip(*large, strict=True) if target else [large]
        for index, plane in enumerate(planes):
            found[f"{name} {index}"] = np.stack(plane)
    large = folder / f"large-{keras.config.backend()}"
    command = ["upscale", folder / "lr", large, "--model", folder / "m.keras", "--precision", "float32"]
    assert main([str(word) for word in command]) == 0
    files = sorted(large.glob("*.png"))
    return found | {"command": np.stack([iio.imread(file) for file in files])}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    sys.modules["tensorflow"] = None
    np.savez(folder / "found.npz", **results(folder))
