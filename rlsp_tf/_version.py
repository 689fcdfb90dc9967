"""The version of rlsp_tf, also for setup.py, which reads it from here."""

__version__ = "0.1.0"
