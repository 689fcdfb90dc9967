"""Files that are written completely or not at all, object stores, signals and threads; nothing about video.

May import: errors.
"""
