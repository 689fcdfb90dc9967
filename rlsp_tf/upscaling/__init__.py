"""From file to file, resumable, in one process or on a cluster.

May import: inference, network, media, pixels, system, errors.
"""
