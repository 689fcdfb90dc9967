"""One step of a network by whatever runs it, and steps over a stream of frames.

May import: network, pixels, system, errors.
"""
