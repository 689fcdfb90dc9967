"""Foreign weights to RLSP models and back: the command ``rlsp-convert``."""
