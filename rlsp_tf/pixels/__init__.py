"""Arrays in, arrays out: colour, resampling, the degradation, metrics and a rendered scene.

NumPy and SciPy only: no files, no TensorFlow. May import: errors.
"""
