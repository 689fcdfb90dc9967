"""Upscales files to files in one process or on a cluster, and resumes interrupted runs.

May import: inference, network, media, pixels, system, errors.
"""
