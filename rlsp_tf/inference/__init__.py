"""Runs networks frame by frame: one step in Keras, in 8 bits or by an export, and streams of steps.

May import: network, pixels, system, errors.
"""
