import gc
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dfd_core.config import DETECTORS, ExtractConfig, Limits
from dfd_core.faces.detect import FrontalFaceDetector
from dfd_core.faces.detectors import load_detector
from dfd_core.faces.images import encode
from dfd_core.schemas import SEGMENT, SEGMENT_PICTURES, VIDEO_PLAN, face_crops, to_table
from dfd_core.stages import plan
from dfd_core.stages.extract import extract_segment
from dfd_core.stages.probe import plan_video
from dfd_core.stages.sandbox import Sandbox
from tests import hostile

ROOT = Path(__file__).parent.parent.parent
CONFIG = ExtractConfig(limits=Limits(timeout_floor_s=60, timeout_factor=1, memory_mb=500))
HASTY = ExtractConfig(limits=Limits(timeout_floor_s=1, timeout_factor=1, memory_mb=500))

pytestmark = pytest.mark.timeout(120)


def segment_of(uri, **fields):
    return {
        "segment_id": "s",
        "plan_key": "k",
        "uri": str(uri),
        "fps": 25.0,
        "duration_s": 3.0,
        **plan.WHOLE_VIDEO.as_row(),
        **fields,
    }


def request_of(uri):
    return {"plan_key": "k", "uri": str(uri)}


def extract(sandbox, uri, **fields):
    row = sandbox.extract(segment_of(uri, **fields))
    to_table([row], face_crops(CONFIG.crop_px))
    return row


def children(pid=None):
    """Return the processes that a process has started and that are not yet gone."""
    return {
        int(child)
        for tasks in Path(f"/proc/{pid or os.getpid()}/task").iterdir()
        for child in (tasks / "children").read_text().split()
    }


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends_within(seconds, pid):
    deadline = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(pid)


def without_seconds(row):
    of_time = ("_seconds", "probe_s", "cpu_s", "extracted_at")
    return {name: value for name, value in row.items() if not name.endswith(of_time)}


@pytest.fixture(scope="module")
def sandbox():
    sandbox = Sandbox(CONFIG, open_video=hostile.open_video, detect=hostile.Detector())
    yield sandbox
    sandbox.close()


@pytest.fixture
def good(clip_folder):
    return clip_folder / "good_a.mp4"


@pytest.mark.parametrize(
    ("deed", "kind", "message"),
    [
        ("segfault", "crashed", "The decoding process was ended by signal 11 (SIGSEGV)"),
        ("kill", "crashed", "The decoding process was ended by signal 9 (SIGKILL)"),
        ("exit_0", "crashed", "The decoding process ended itself with status 0"),
        ("exit_3", "crashed", "The decoding process ended itself with status 3"),
        ("allocate_at_once", "out_of_memory", "The segment needs more memory than there is"),
        ("allocate_slowly", "out_of_memory", "The segment took more than 500 MB of memory"),
        ("sys_exit", "unexpected", "SystemExit: 3"),
    ],
)
def test_a_hostile_segment_becomes_its_row_and_the_next_one_works(sandbox, good, deed, kind, message):
    row = extract(sandbox, f"hostile:{deed}")
    assert (row["error_kind"], row["error_message"]) == (kind, message)
    assert (row["num_frames"], row["faces"]) == (0, [])
    row = extract(sandbox, good)
    assert (row["error_kind"], row["num_frames"], len(row["faces"])) == (None, 3, 3)


def test_memory_is_never_taken_far_beyond_the_limit_however_fast(sandbox):
    row = extract(sandbox, "hostile:allocate_fast")
    assert row["error_kind"] == "out_of_memory"


@pytest.mark.parametrize("deed", ["sleep", "spin"])
def test_an_endless_segment_ends_with_its_time(deed):
    sandbox = Sandbox(HASTY, open_video=hostile.open_video, detect=hostile.Detector())
    started_s = time.monotonic()
    row = extract(sandbox, f"hostile:{deed}", duration_s=1.5, frame_indices=[0, 50, 100])
    lasted_s = time.monotonic() - started_s
    sandbox.close()
    assert (row["error_kind"], row["error_message"]) == ("timeout", "The segment took longer than 1.5 s")
    assert (row["num_frames_wanted"], row["num_frames"]) == (3, 0)
    assert 1.5 < row["extract_seconds"]["decode_s"] <= lasted_s < 30
    assert set(row["extract_cpu_seconds"].values()) == {0.0}


def test_the_seconds_are_those_of_the_child_by_the_clock_and_by_its_cpu(good):
    sandbox = Sandbox(CONFIG, open_video=hostile.open_video, detect=hostile.Slow())
    extract(sandbox, good)  # the child starts
    began_cpu_s, began_s = time.process_time(), time.perf_counter()
    row = extract(sandbox, f"slow:{good}")
    lasted_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    sandbox.close()
    wall, cpu = row["extract_seconds"], row["extract_cpu_seconds"]
    for name, times in (("seek_s", 1), ("detect_s", 3)):
        assert wall[name] >= times * 0.4
        assert times * 0.2 <= cpu[name] <= wall[name] - times * 0.19
    assert sum(wall.values()) <= lasted_s
    assert cpu_s < sum(cpu.values()), "the parent only waits"


def test_a_plan_made_in_two_openings_has_the_seconds_of_both(good):
    config = ExtractConfig(segment_s=1.0)
    sandbox = Sandbox(config, open_video=hostile.open_video)
    row = sandbox.plan(request_of(f"slow:{good}"))
    sandbox.close()
    assert len(row["segments"]) == 3
    assert row["probe_s"] >= 0.8
    assert 0.4 <= row["probe_cpu_s"] <= row["probe_s"] - 0.38


def test_a_hostile_video_is_a_row_of_the_plan_too(sandbox, good):
    row = sandbox.plan(request_of("hostile:segfault"))
    to_table([row], VIDEO_PLAN)
    assert (row["error_kind"], row["segments"], row["duration_s"]) == ("crashed", [], None)
    assert (row["probe_s"] > 0, row["probe_cpu_s"]) == (True, 0.0)
    assert sandbox.plan(request_of(good))["error_kind"] is None


def test_a_video_lost_while_it_was_indexed_keeps_what_its_header_told(good):
    config = ExtractConfig(segment_s=1.0)
    with_segments = Sandbox(config, open_video=hostile.open_video)
    row = with_segments.plan(request_of(f"second:{good}"))
    with_segments.close()
    to_table([row], VIDEO_PLAN)
    assert (row["error_kind"], row["segments"]) == ("crashed", [])
    assert (row["duration_s"], row["fps"], row["width"], row["height"]) == (3.0, 25.0, 320, 240)


def test_one_child_serves_the_segments_and_plans_that_do_no_harm(sandbox, good, clip_folder):
    extract(sandbox, good)
    first = sandbox._child.pid
    for name in ("no_face.mp4", "truncated.mp4", "text.mp4", "empty.mp4", "gone.mp4", "good_c.webm"):
        sandbox.plan(request_of(clip_folder / name))
        extract(sandbox, clip_folder / name)
    assert sandbox._child.pid == first
    assert first in children()


def test_the_rows_are_those_of_the_same_work_in_this_process(clip_folder):
    detect = FrontalFaceDetector()
    config = ExtractConfig(segment_s=1.0)
    sandbox = Sandbox(config, detect=detect)
    for name in ("good_a.mp4", "sub/good_b.mkv", "truncated.mp4", "text.mp4", "empty.mp4"):
        request = request_of(clip_folder / name)
        expected = plan_video(request, config)
        assert without_seconds(sandbox.plan(request)) == without_seconds(expected)
        for part in expected["segments"] or [plan.WHOLE_VIDEO.as_row()]:
            segment = segment_of(clip_folder / name, **part)
            expected_row = extract_segment(segment, config, detect)
            assert without_seconds(sandbox.extract(segment)) == without_seconds(expected_row)
    sandbox.close()


def test_the_child_makes_the_detector_that_the_configuration_names(clip_folder):
    for name in DETECTORS:
        config = ExtractConfig(detector=name, detect_max_side_px=240)
        with closing(Sandbox(config)) as sandbox:
            row = extract(sandbox, clip_folder / "good_a.mp4")
        detect = load_detector(name, max_side_px=240)
        assert row["faces"]
        assert without_seconds(row) == without_seconds(
            extract_segment(segment_of(clip_folder / "good_a.mp4"), config, detect)
        )


def test_fifty_megabytes_of_faces_come_through(good):
    with_many_faces = Sandbox(CONFIG, detect=hostile.Detector(num_faces=350))
    row = extract(with_many_faces, good)
    with_many_faces.close()
    assert (row["error_kind"], row["num_frames"]) == (None, 3)
    assert sum(len(face["crop"]) for face in row["faces"]) > 50e6


def test_a_result_that_cannot_be_passed_on_is_a_fault_of_ours(good):
    sandbox = Sandbox(CONFIG, detect=hostile.Unpicklable())
    row = extract(sandbox, good)
    sandbox.close()
    assert row["error_kind"] == "unexpected"
    assert "pickle" in row["error_message"]


def test_a_child_that_is_killed_while_it_waits_costs_nothing(sandbox, good):
    extract(sandbox, good)
    os.kill(sandbox._child.pid, signal.SIGKILL)
    assert extract(sandbox, good)["error_kind"] is None
    os.kill(sandbox._child.pid, signal.SIGKILL)
    time.sleep(0.3)
    assert extract(sandbox, good)["error_kind"] is None


def test_a_child_outlives_the_thread_that_asked_first(good):
    sandbox = Sandbox(CONFIG, detect=hostile.Detector())
    thread = threading.Thread(target=sandbox.extract, args=(segment_of(good),))
    thread.start()
    thread.join()
    pid = sandbox._child.pid
    time.sleep(0.3)
    assert extract(sandbox, good)["error_kind"] is None
    assert sandbox._child.pid == pid
    sandbox.close()


@pytest.mark.parametrize("is_made_anew", [True, False])
def test_a_child_starts_in_a_worker_whose_folder_is_gone(good, tmp_path, monkeypatch, is_made_anew):
    folder = tmp_path / "working_dir"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    if is_made_anew:
        folder.mkdir()
    sandbox = Sandbox(CONFIG)
    assert sandbox.extract(segment_of(good))["error_kind"] is None
    sandbox.close()
    assert Path.cwd() == (folder if is_made_anew else Path("/"))


def test_nothing_is_left_after_close_nor_of_a_sandbox_that_is_forgotten(good):
    before = children()
    sandbox = Sandbox(CONFIG, detect=hostile.Detector())
    extract(sandbox, good)
    assert len(children() - before) == 1
    sandbox.close()
    assert children() == before
    extract(sandbox, good)
    del sandbox
    gc.collect()
    assert children() == before


def test_the_child_loads_and_inherits_only_what_it_needs(monkeypatch, sandbox):
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    monkeypatch.setenv("PARENTS_FILES", os.readlink(f"/proc/self/fd/{writer}"))
    sandbox.close()
    assert extract(sandbox, "hostile:tell")["error_message"] == "[] []"
    sandbox.close()
    os.close(reader)
    os.close(writer)


PARENT = """
import signal, sys
from tests import hostile
from tests.stages.test_sandbox import CONFIG, segment_of
from dfd_core.stages.sandbox import Sandbox

signal.signal(signal.SIGINT, signal.default_int_handler)  # a process that starts with SIGINT ignored has none
sandbox = Sandbox(CONFIG, open_video=hostile.open_video, detect=hostile.Detector())
sandbox.extract(segment_of(sys.argv[1]))
try:
    print(sandbox._child.pid, flush=True)
    if sys.argv[2:]:
        sandbox.extract(segment_of(sys.argv[2]))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def parent(good):
    """Start a process with a sandbox that is at work, and return it and the child's pid."""
    started = []

    def start(*deed):
        process = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(good), *deed],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        child = int(process.stdout.readline())
        time.sleep(0.3)
        return process, child

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the child too, should it outlive its parent
        process.communicate()


def test_the_child_of_a_killed_parent_dies_with_it_even_in_an_endless_c_function(parent):
    process, child = parent("hostile:spin")
    assert is_running(child)
    process.kill()
    assert ends_within(5, child)


def test_a_parent_that_ends_without_closing_leaves_nothing_and_says_nothing(parent):
    process, child = parent()
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (0, "")
    assert ends_within(5, child)


def test_an_interrupt_from_the_terminal_is_the_parents_business(parent):
    process, child = parent("hostile:sleep")
    time.sleep(1.0)  # by then the segment is being worked on
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (130, "")
    assert ends_within(5, child)


@pytest.mark.ray
def test_a_segfault_in_a_ray_worker_costs_one_row(ray_cluster, good):
    import ray

    uris = [good, "hostile:segfault", good, "hostile:tell"]
    rows = [segment_of(uri, segment_id=str(n)) for n, uri in enumerate(uris)]
    done = (
        ray.data.from_arrow(to_table(rows, SEGMENT))
        .map_batches(
            hostile.extract_block, batch_format="pyarrow", batch_size=None, fn_kwargs={"config": CONFIG}
        )
        .take_all()
    )
    errors = {row["segment_id"]: (row["error_kind"], row["error_message"]) for row in done}
    assert errors["0"] == errors["2"] == (None, None)
    assert errors["1"] == ("crashed", "The decoding process was ended by signal 11 (SIGSEGV)")
    assert errors["3"] == ("unreadable", "[] []"), "the child has loaded Ray, or holds its files"


def test_a_lost_segment_of_pictures_is_a_row_of_pictures(good):
    config = replace(CONFIG, image_format="png")
    sandbox = Sandbox(config, open_video=hostile.open_video, detect=hostile.Detector())
    lost, found = (sandbox.extract(segment_of(uri)) for uri in ("hostile:segfault", good))
    sandbox.close()
    table = to_table([lost, found], SEGMENT_PICTURES)
    assert table.column("num_faces").to_pylist() == [0, 3]
    assert table.column("error_kind").to_pylist() == ["crashed", None]


def test_pictures_are_decoded_in_the_child(sandbox):
    face = dict.fromkeys(("left", "top", "right", "bottom"))
    face |= {"frame_index": 0, "time_s": 0.0, "face_index": 0, "detector_confidence": 0.0}
    image = encode(np.full((10, 10, 3), 7, np.uint8), "png")
    pictures = {"num_frames_wanted": 1, "num_frames": 1, "error_kind": None, "error_message": None}
    row = sandbox.crop(segment_of("-"), pictures | {"faces": [face | {"image": image}]})
    assert set(row["faces"][0]["crop"]) == {7}
    to_table([row], face_crops(CONFIG.crop_px))
    unusable = sandbox.crop(segment_of("-"), pictures | {"faces": [None]})
    assert (unusable["error_kind"], unusable["num_frames_wanted"]) == ("unexpected", 1)
    to_table([unusable], face_crops(CONFIG.crop_px))
