"""Several devices and processes that train one network together.

May import what ``training`` may.
"""
