"""The command line: parsers and what they call, nothing else.

May import everything.
"""
