"""Reads and writes clips: videos, folders of images and single images.

May import: pixels, system, errors.
"""
