"""Clips for training: found in folders, prepared once, and cut into samples.

May import what ``training`` may.
"""
