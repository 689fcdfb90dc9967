"""Numbers and pictures of quality: protocols, tables, the page, clips side by side, the demo.

May import: upscaling, inference, network, media, pixels, system, errors.
"""
