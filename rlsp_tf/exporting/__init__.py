"""Writes networks for other programs: SavedModel, ONNX and LiteRT.

May import: inference, network, pixels, system, errors.
"""
