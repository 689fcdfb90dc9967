"""``rlsp ui``: a page on which videos are dropped, looked at, upscaled and downloaded.

May import: serving, upscaling, inference, network, media, pixels, system, errors.
"""
