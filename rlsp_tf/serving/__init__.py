"""``rlsp serve``: videos and sessions of frames over HTTP.

May import: upscaling, inference, network, media, pixels, system, errors.
"""
