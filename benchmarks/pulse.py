"""A thread that evaluates without a pause: how long it is held up, and by whom."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Pulse(threading.Thread):
    """Remembers the longest time between two answers, and the most CPU time in one such wait.

    The CPU time is that of `worker`, a thread of this process: what it took by itself, whatever
    else the machine did meanwhile.
    """

    def __init__(self, evaluate: Callable[[], object], worker: threading.Thread) -> None:
        super().__init__()
        if worker.ident is None:
            raise ValueError(f"{worker.name} was not started")
        self._evaluate = evaluate
        self._worker = time.pthread_getcpuclockid(worker.ident)
        self._over = threading.Event()
        self.longest_s = 0.0
        self.kept_s = 0.0

    def run(self) -> None:
        evaluate, over = self._evaluate, self._over.is_set
        last_s, last_cpu_s = time.perf_counter(), time.clock_gettime(self._worker)
        while not over():
            evaluate()
            now_s, cpu_s = time.perf_counter(), time.clock_gettime(self._worker)
            self.longest_s = max(self.longest_s, now_s - last_s)
            self.kept_s = max(self.kept_s, cpu_s - last_cpu_s)
            last_s, last_cpu_s = now_s, cpu_s

    def stop(self) -> None:
        self._over.set()
        self.join()
