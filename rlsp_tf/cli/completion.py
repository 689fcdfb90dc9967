"""``rlsp completion`` and ``rlsp-convert completion``: commands and options that the shell completes."""

import argparse
from collections.abc import Callable, Iterator

from rlsp_tf.cli.common import add_command
from rlsp_tf.errors import RLSPError


def add_completion(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    *,
    program: str,
    build: Callable[[], argparse.ArgumentParser],
) -> None:
    """Adds ``completion``.

    Args:
        commands: where to add it.
        program: name of the program.
        build: makes the parser of the program with all its commands.
    """
    command = add_command(
        commands,
        "completion",
        lambda arguments: print(script(build(), arguments.shell)),
        help="print a script with which a shell completes commands and options",
        description=f"""\
Prints a script that makes a shell complete commands, options and file names at the Tab key. It needs
pip install 'rlsp_tf[completion]'.

  {program} completion bash > ~/.local/share/bash-completion/completions/{program}
  {program} completion zsh > ~/.zfunc/_{program}    # fpath+=~/.zfunc goes before compinit in ~/.zshrc
  {program} completion tcsh > ~/.{program}.tcsh     # source ~/.{program}.tcsh goes into ~/.tcshrc""",
    )
    command.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Returns the script for a shell.

    Raises:
        RLSPError: if shtab is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise RLSPError(
            "completion needs shtab; install it by: pip install 'rlsp_tf[completion]'."
        ) from error
    for action in _actions(parser):
        # Most of what is not chosen from a list is the name of a file.
        if action.choices is None and action.nargs != 0 and action.type is None:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yields the arguments of a parser and of all its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
