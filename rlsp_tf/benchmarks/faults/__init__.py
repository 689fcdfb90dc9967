"""Faults on purpose: damaged files, kills, full disks, a long film; and the page of what came of them.

May import what ``benchmarks`` may.
"""
