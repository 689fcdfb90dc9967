"""Commands that pages and ``--help`` show as examples."""

import argparse
import itertools
import re
import shlex

PROGRAMS = ("rlsp", "rlsp-convert")


def shell_blocks(page):
    """The blocks of shell commands in a page of Markdown."""
    return re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def commands_in(text):
    """The calls of our programs in lines of shell commands, as lists of words that begin with the program."""
    found = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if not re.match(r"\s*(\w+=\S*\s+)*[a-z]", line):
            continue
        words = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        words.whitespace_split = True
        parts = [[]]
        for word in words:
            if set(word) <= set("|&;"):
                parts.append([])
            else:
                parts[-1].append(word)
        for part in parts:
            call = list(itertools.dropwhile(lambda word: "=" in word, part))
            if call and call[0] in PROGRAMS:
                redirected = next((at for at, word in enumerate(call) if set(word) <= set("<>")), None)
                found.append(call[:redirected])
    return found


def all_parsers(parser):
    """A parser and those of its commands, at any depth."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from all_parsers(each)


def examples_in_help(parser, command=None):
    """The examples in the ``--help`` of a program and its commands, or of one command alone."""
    lines = []
    for each in all_parsers(parser):
        if command is not None and each.prog != command:
            continue
        for text in (each.description, each.epilog):
            lines += re.findall(r"^  (?=\S)(.*(?:\\\n.*)*)", text or "", re.MULTILINE)
    return commands_in("\n".join(lines))
