"""``rlsp benchmark``: times, quality and reliability, each held against something.

May import everything but cli.
"""
