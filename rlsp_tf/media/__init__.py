"""Clips as files: reading and writing videos, folders of images and images.

May import: pixels, system, errors.
"""
