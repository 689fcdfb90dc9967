"""The command line ``rlsp``. Each command is defined in another module of this package."""

import argparse
from collections.abc import Sequence

from rlsp_tf._version import __version__
from rlsp_tf.cli.benchmark import add_benchmark
from rlsp_tf.cli.common import run
from rlsp_tf.cli.evaluate import add_compare, add_degrade, add_demo, add_evaluate
from rlsp_tf.cli.export import add_export
from rlsp_tf.cli.serve import add_serve
from rlsp_tf.cli.train import add_train
from rlsp_tf.cli.upscale import add_upscale

DESCRIPTION = """\
Makes video four times larger in each direction with RLSP (recurrent latent space propagation).

  rlsp upscale holiday.mp4 holiday-4x.mp4
  rlsp upscale frames/ frames-4x/

Weights of the paper's authors: rlsp-convert download 7-64 weights/
"""


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of ``rlsp`` with all its commands."""
    parser = argparse.ArgumentParser(
        prog="rlsp", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add_upscale(commands)
    add_degrade(commands)
    add_compare(commands)
    add_evaluate(commands)
    add_train(commands)
    add_export(commands)
    add_benchmark(commands)
    add_serve(commands)
    add_demo(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``rlsp`` and returns its exit code: 0, 1 for a failure, 2 for wrong usage."""
    return run(build_parser(), argv)
