"""Several devices and processes that train one network.

May import what ``training`` may.
"""
