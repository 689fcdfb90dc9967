"""Training: the loop, its callbacks, clips to train on, and several workers.

May import: network, media, pixels, system, errors.
"""
