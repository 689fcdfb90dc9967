"""Quality in numbers and pictures: evaluation, tables, the page, clips side by side, the demo.

May import: upscaling, inference, network, media, pixels, system, errors.
"""
