"""How threads are begun; how batches are divided stands in test_benchmark.py."""

import os
import sys
import threading

import pytest

from rlsp_tf.pipeline import Behind
from rlsp_tf.threads import POLITENESS, be_polite, politely

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")


def niceness():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@linux
def test_polite_threads_and_those_they_begin_go_last_and_others_do_not():
    before = niceness()
    found = []

    def work():
        found.append(niceness())
        inner = threading.Thread(target=lambda: found.append(niceness()))
        inner.start()
        inner.join()

    politely(work)
    polite = min(before + POLITENESS, 19)
    assert found == [polite, polite]
    assert niceness() == before


@linux
def test_what_encodes_is_polite():
    found = []
    with Behind("encoding", lambda item: found.append(niceness())) as behind:
        behind.put(None)
    assert found == [min(niceness() + POLITENESS, 19)]


def test_failures_come_through():
    with pytest.raises(KeyError, match="no such encoder"):
        politely(lambda: {}["no such encoder"])


def test_elsewhere_nothing_happens(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "setpriority", None)
    be_polite()
