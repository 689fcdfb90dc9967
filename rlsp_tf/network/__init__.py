"""The paper: configuration, cell, layer, and weights on disk.

Read ``config``, ``cell``, ``model`` and ``weights``, in this order. May import: pixels, system, errors.
"""
