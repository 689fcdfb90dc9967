"""``rlsp export``."""

import argparse

from rlsp_tf.cli.common import add_command, start_tensorflow
from rlsp_tf.system.quiet import quiet_tensorflow


def add_export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp export``."""
    parser = add_command(
        commands,
        "export",
        _export,
        help="write a network for other programs and languages",
        description="""\
Writes a network in a format that runs without rlsp. Before the result appears, its output is compared
with that of the original; the differences are in a description beside it, OUT/rlsp.json or OUT.json.

  saved_model  TensorFlow, TensorFlow Serving: clips to luma or RGB, and single steps; any size
  litert       phones and small devices: single steps, with the state kept by the caller
  onnx         ONNX Runtime and many others: single steps, with the state kept by the caller

  rlsp export 7-48 rlsp-7-48/ --format saved_model
  rlsp export 7-48 rlsp-7-48.tflite --format litert --precision dynamic --size 270x480
  rlsp export 7-48 rlsp-7-48.onnx --format onnx

docs/deploy.md shows clients in Python, C++ and shell. rlsp upscale --model OUT runs exports, too.""",
    )
    parser.add_argument("model", metavar="MODEL", help="a .keras file, or the name of weights")
    parser.add_argument(
        "out", metavar="OUT", help="the folder (saved_model) or file (.tflite, .onnx) to write"
    )
    parser.add_argument("--format", required=True, choices=("saved_model", "litert", "onnx"))
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16", "dynamic", "int8"),
        help="number format: float32 (default); for saved_model also bfloat16 and float16; for litert also "
        "dynamic (weights in 8 bits) and int8 (weights and computation in 8 bits)",
    )
    parser.add_argument(
        "--size",
        type=_size,
        metavar="HxW",
        help="height and width of low-resolution frames, if they should be fixed (litert, onnx)",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")


def _size(text: str) -> tuple[int, int]:
    height, cross, width = text.partition("x")
    if not (cross and height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected HxW, such as 270x480, not {text!r}")
    return int(height), int(width)


def _export(arguments: argparse.Namespace) -> None:
    start_tensorflow()
    from rlsp_tf.exporting.export import export

    with quiet_tensorflow():
        card = export(
            arguments.model,
            arguments.out,
            format=arguments.format,
            precision=arguments.precision,
            size=arguments.size,
            force=arguments.force,
        )
    print(f"{arguments.out}: {card['format']} in {card['precision']}, compared with the Keras model:")
    for found in card["verification"]:
        print(
            f"  {found['width']}x{found['height']}, {found['steps']} steps: at most "
            f"{found['max_difference']:.2g} grey levels apart; {found['psnr']:.3f} dB, Keras in float32 "
            f"{found['psnr_float32']:.3f} dB"
        )
