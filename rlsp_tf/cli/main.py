"""The command line ``rlsp``. Each command is defined in another module of this package."""

import argparse
from collections.abc import Sequence
from functools import partial

from rlsp_tf.cli.benchmark import add_benchmark
from rlsp_tf.cli.common import make_parser, run
from rlsp_tf.cli.completion import add_completion
from rlsp_tf.cli.evaluate import add_compare, add_degrade, add_demo, add_evaluate
from rlsp_tf.cli.export import add_export
from rlsp_tf.cli.preview import add_preview
from rlsp_tf.cli.serve import add_serve
from rlsp_tf.cli.train import add_train
from rlsp_tf.cli.ui import add_ui
from rlsp_tf.cli.upscale import add_upscale

DESCRIPTION = """\
Makes video four times larger in each direction with RLSP (recurrent latent space propagation).

  rlsp preview holiday.mp4
  rlsp upscale holiday.mp4 holiday-4x.mp4
  rlsp upscale frames/ frames-4x/

Weights of the paper's authors: rlsp-convert download 7-64 weights/
The Tab key completes commands and options after: rlsp completion --help
"""


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of ``rlsp`` with all its commands."""
    return make_parser(
        "rlsp",
        DESCRIPTION,
        *(add_upscale, add_preview, add_degrade, add_compare, add_evaluate, add_train),
        *(add_export, add_benchmark, add_serve, add_ui, add_demo),
        partial(add_completion, program="rlsp", build=build_parser),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``rlsp`` and returns its exit code: 0, 1 for a failure, 2 for wrong usage."""
    return run(build_parser(), argv)
