"""Files that appear whole or not at all, stores of objects, signals and threads. Knows nothing of video.

May import: errors.
"""
