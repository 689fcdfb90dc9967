"""Faults on purpose: damaged files, kills, full disks and a long film; and the page of their results.

May import what ``benchmarks`` may.
"""
