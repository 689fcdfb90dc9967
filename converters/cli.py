"""The command line ``rlsp-convert``: converts weights of other formats to RLSP models and back."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from rlsp_tf.cli.common import add_command, make_parser, positive, print_notes, run, start_tensorflow
from rlsp_tf.cli.completion import add_completion
from rlsp_tf.errors import RLSPError, UsageError

DESCRIPTION = """\
Downloads the weights of the paper's authors, and converts between their formats and .keras files.

  rlsp-convert download 7-64 weights/
  rlsp-convert tf1 ckpt_rlsp_64 authors-7-64.keras
  rlsp-convert verify ckpt_rlsp_64 authors-7-64.keras
  rlsp-convert pytorch 0500000.pt rlsp-7-128-rgb.keras
"""


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of ``rlsp-convert`` with all its commands."""
    return make_parser(
        "rlsp-convert",
        DESCRIPTION,
        *(_add_download, _add_tf1, _add_verify, _add_pytorch),
        partial(add_completion, program="rlsp-convert", build=build_parser),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``rlsp-convert`` and returns its exit code: 0, 1 for a failure, 2 for wrong usage."""
    return run(build_parser(), argv)


def _add_download(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "download",
        _download,
        help="get the weights of the paper's authors, converted",
        description="""\
Downloads a checkpoint of the paper's authors from GitHub into DIR, checks it, and converts it to
DIR/authors-NAME.keras. Shows the licence (CC BY-NC-SA 4.0, academic use) and asks first. An interrupted
download goes on where it stopped when the command is run again.

  rlsp-convert download 7-64 weights/
  rlsp-convert download 7-128 weights/ --accept-licence""",
    )
    parser.add_argument(
        "name", choices=("7-48", "7-64", "7-128"), help="layers and filters; 7-128 is the best network"
    )
    parser.add_argument("folder", metavar="DIR", help="the folder to write to; made if it is missing")
    parser.add_argument(
        "--accept-licence", action="store_true", help="accept it without being asked, for scripts"
    )
    parser.add_argument("--base-url", metavar="URL", help="a mirror to download from instead of GitHub")
    parser.add_argument("--force", action="store_true", help="replace files that exist")


def _download(arguments: argparse.Namespace) -> None:
    from rlsp_tf.converters.download import BASE_URL, LICENCE, download

    print(LICENCE)
    if not arguments.accept_licence:
        _ask_for_licence()
    start_tensorflow()
    target = download(
        arguments.name,
        arguments.folder,
        base_url=arguments.base_url or BASE_URL,
        force=arguments.force,
        progress=True,
    )
    print(f"{target}: written.")


def _ask_for_licence() -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            "the licence has to be accepted, and there is no terminal to ask on; add --accept-licence."
        )
    try:
        answer = input("Do you accept it? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise RLSPError("the licence was not accepted; nothing was downloaded.")


def _add_tf1(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "tf1",
        _tf1,
        help="convert a TensorFlow 1 checkpoint of the paper's authors, or write one",
        description="""\
Converts between TensorFlow 1 checkpoints in the layout of the paper's authors and .keras files.
Whichever of the two arguments ends in .keras decides the direction. Weights stay equal bit for bit.

A checkpoint is three files with a common prefix: PREFIX.index, PREFIX.data-00000-of-00001 and
PREFIX.meta; give the prefix, or any of the three. The .meta file holds the authors' graph, which is
neither needed nor written. Written checkpoints also hold the state of Adam before the first step,
because the authors' graphs expect it.

  rlsp-convert tf1 checkpoints/ckpt_rlsp_64 authors-7-64.keras
  rlsp-convert tf1 authors-7-64.keras checkpoints/mine""",
    )
    parser.add_argument("source", metavar="SOURCE", help="prefix of a checkpoint, or a .keras file")
    parser.add_argument("target", metavar="TARGET", help="a .keras file, or the prefix of a checkpoint")
    parser.add_argument("--force", action="store_true", help="replace TARGET if it exists")


def _tf1(arguments: argparse.Namespace) -> None:
    source, target = arguments.source, arguments.target
    to_keras = _to_keras(source, target)
    start_tensorflow()
    from rlsp_tf.converters.tf1 import keras_from_tf1, save_tf1
    from rlsp_tf.network.weights import load_model

    if to_keras:
        keras_from_tf1(source, target, force=arguments.force)
    else:
        save_tf1(load_model(source), target, force=arguments.force)
    print(f"{target}: written from {source}.")


def _to_keras(source: str, target: str) -> bool:
    """Returns whether a conversion makes a ``.keras`` file, rather than reading one.

    Raises:
        UsageError: unless exactly one of the two names ends in ``.keras``.
    """
    to_keras = target.endswith(".keras")
    if to_keras == source.endswith(".keras"):
        raise UsageError(f"{source} and {target}: one of the two must end in .keras, the other must not.")
    return to_keras


def _add_verify(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "verify",
        _verify,
        help="compare a converted .keras file with the authors' checkpoint and graph",
        description="""\
Compares a .keras file with the checkpoint that it was made from: names and shapes with PREFIX.index,
weights with PREFIX.data-00000-of-00001 bit for bit, and outputs with those of the authors' own graph
in PREFIX.meta, over three recurrent steps on random clips of two sizes. Prints what it measured, and
what it could not compare because a file is missing. Fails if anything differs; outputs may differ by
0.001 grey levels.

  rlsp-convert verify checkpoints/ckpt_rlsp_64 authors-7-64.keras""",
    )
    parser.add_argument("prefix", metavar="PREFIX", help="prefix of the checkpoint, or one of its files")
    parser.add_argument("model", metavar="MODEL", help="the .keras file")


def _verify(arguments: argparse.Namespace) -> None:
    start_tensorflow()
    from rlsp_tf.converters.verify import verify

    print("\n".join(verify(arguments.prefix, arguments.model)))


def _add_pytorch(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "pytorch",
        _pytorch,
        help="convert a PyTorch checkpoint of RLSP with RGB output, or write one",
        description="""\
Converts between checkpoints of the authors' PyTorch training, whose networks have RGB output, and
.keras files. Whichever of the two arguments ends in .keras decides the direction. Weights stay equal
bit for bit. Needs PyTorch: pip install 'rlsp_tf[pytorch]'.

A file that holds only a state_dict will do, and so will files of BasicSR, whose averaged weights are
taken (params_ema), names that begin with module., weights in float16, and .safetensors files. No code in
a file is run; a file that holds code is refused. A checkpoint does not say what its scale is. It is
assumed to be the one for which the hidden state has as many channels as the other layers, or else 4; if
that is wrong, give --scale. Written files also hold the state of Adam before the first step, so that the
authors' training can go on from them.

  rlsp-convert pytorch logs/checkpoints/0500000.pt rlsp-7-128-rgb.keras
  rlsp-convert pytorch rlsp-7-128-rgb.keras mine.pt""",
    )
    parser.add_argument("source", metavar="SOURCE", help="a .pt or .safetensors file, or a .keras file")
    parser.add_argument("target", metavar="TARGET", help="a .keras file, or a .pt file")
    parser.add_argument(
        "--scale", type=positive, metavar="N", help="scale of the network in a .pt file (see above)"
    )
    parser.add_argument("--force", action="store_true", help="replace TARGET if it exists")


def _pytorch(arguments: argparse.Namespace) -> None:
    source, target = arguments.source, arguments.target
    to_keras = _to_keras(source, target)
    if arguments.scale is not None and not to_keras:
        raise UsageError(f"{source}: a .keras file says what its scale is; leave out --scale.")
    start_tensorflow()
    from rlsp_tf.converters.pytorch import keras_from_pytorch, save_pytorch
    from rlsp_tf.network.weights import load_model

    if to_keras:
        found = keras_from_pytorch(source, target, scale=arguments.scale, force=arguments.force)
        network = f"a {found.name} network of scale {found.scale} with {found.hidden_channels} state channels"
        print(f"{target}: written from {source}, {network}.")
        if arguments.scale is None and found.hidden_channels != found.filters:
            print_notes(
                [f"{source}: does not say what its scale is, {found.scale} was taken; or give --scale."]
            )
    else:
        save_pytorch(load_model(source), target, force=arguments.force)
        print(f"{target}: written from {source}.")


if __name__ == "__main__":
    sys.exit(main())
