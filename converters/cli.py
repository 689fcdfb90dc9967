"""The command line ``rlsp-convert``: foreign weights to RLSP models and back."""

import argparse
import sys
from collections.abc import Sequence

from rlsp_tf.cli import add_command, run, start_tensorflow
from rlsp_tf.errors import UsageError

DESCRIPTION = """\
Gets weights for rlsp, from other formats and into them.

  rlsp-convert tf1 ckpt_rlsp_64 rlsp-7-64.keras
  rlsp-convert verify ckpt_rlsp_64 rlsp-7-64.keras
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``rlsp-convert`` with all its commands."""
    parser = argparse.ArgumentParser(
        prog="rlsp-convert", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_tf1(commands)
    _add_verify(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``rlsp-convert`` and returns its exit code: 0, 1 for a failure, 2 for wrong usage."""
    return run(build_parser(), argv)


def _add_tf1(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "tf1",
        _tf1,
        help="convert a TensorFlow 1 checkpoint of the paper's authors, or write one",
        description="""\
Converts between TensorFlow 1 checkpoints in the layout of the paper's authors and .keras files.
Whichever of the two arguments ends in .keras decides the direction. Weights stay equal bit for bit.

A checkpoint is three files of one prefix: PREFIX.index, PREFIX.data-00000-of-00001 and PREFIX.meta;
give the prefix, or any of the three. The .meta (the authors' graph) is neither needed nor written.
Written checkpoints have Adam's slots as before a first step, so that the authors' graphs restore them.

  rlsp-convert tf1 checkpoints/ckpt_rlsp_64 rlsp-7-64.keras
  rlsp-convert tf1 rlsp-7-64.keras checkpoints/mine""",
    )
    parser.add_argument("source", metavar="SOURCE", help="prefix of a checkpoint, or a .keras file")
    parser.add_argument("target", metavar="TARGET", help="a .keras file, or the prefix of a checkpoint")
    parser.add_argument("--force", action="store_true", help="replace TARGET if it exists")


def _tf1(arguments: argparse.Namespace) -> None:
    source, target = arguments.source, arguments.target
    to_keras = target.endswith(".keras")
    if to_keras == source.endswith(".keras"):
        raise UsageError(f"{source} and {target}: one of the two must end in .keras, the other must not.")
    start_tensorflow()
    from converters.tf1 import keras_from_tf1, save_tf1
    from rlsp_tf.model import load_model

    if to_keras:
        keras_from_tf1(source, target, force=arguments.force)
    else:
        save_tf1(load_model(source), target, force=arguments.force)
    print(f"{target}: written from {source}.")


def _add_verify(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "verify",
        _verify,
        help="compare a converted .keras file with the authors' checkpoint and graph",
        description="""\
Compares a .keras file with the checkpoint that it was made of: names and shapes with PREFIX.index,
weights with PREFIX.data-00000-of-00001 bit for bit, and outputs with those of the authors' own graph
in PREFIX.meta, over three recurrent steps of random clips of two sizes. Prints what it measured and
what it could not compare for want of a file; fails if anything differs (outputs: 0.001 grey levels).

  rlsp-convert verify checkpoints/ckpt_rlsp_64 rlsp-7-64.keras""",
    )
    parser.add_argument("prefix", metavar="PREFIX", help="prefix of the checkpoint, or one of its files")
    parser.add_argument("model", metavar="MODEL", help="the .keras file")


def _verify(arguments: argparse.Namespace) -> None:
    start_tensorflow()
    from converters.verify import verify

    print("\n".join(verify(arguments.prefix, arguments.model)))


if __name__ == "__main__":
    sys.exit(main())
