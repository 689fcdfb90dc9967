"""Clips for training: found in folders, made ready once, and cut into samples.

May import what ``training`` may.
"""
