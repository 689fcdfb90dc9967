"""``rlsp benchmark``: measurements of speed, quality and reliability, each with a comparison.

May import everything but cli.
"""
