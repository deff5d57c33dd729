"""Where graphs are kept, and who builds one."""

import subprocess
import sys
import threading
import time
from pathlib import Path

from dfd_core.model.graph_cache import KeptGraph

ROOT = Path(__file__).resolve().parents[2]


def test_one_builds_and_the_others_wait(tmp_path):
    order = []

    def want(name):
        with KeptGraph(tmp_path, "k").locked():
            order.append(f"{name} in")
            time.sleep(0.2)
            order.append(f"{name} out")

    threads = [threading.Thread(target=want, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event[2:] for event in order] == ["in", "out", "in", "out"]


def test_a_predictor_of_a_kept_graph_loads_no_keras(tmp_path):
    code = """
import os, sys
os.environ["TF_USE_LEGACY_KERAS"] = "1"
from dfd_core.model.source import resolve_model
from dfd_core.model.predictor import load_predictor
load_predictor(resolve_model("untrained:mobilenet_v3_small"), cache_dir=sys.argv[1])
print("keras" in sys.modules)
"""
    runs = [
        subprocess.run(
            [sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
        )
        for _ in range(2)
    ]
    assert [run.stdout.split()[-1] for run in runs] == ["True", "False"]
