"""The command line: the parsers of ``rlsp``, and the functions that they call.

May import everything.
"""
