"""Jobs through a real job server, on a cluster of four nodes."""

import json
import os
import re
import shutil
import tempfile
import time
import urllib.request
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfd.cluster.pools import WRITER
from dfd_core.config import ExtractConfig, Sampling
from dfd_core.faces.detect import FrontalFaceDetector
from dfd_core.model.predictor import load_predictor
from dfd_core.model.source import resolve_model
from dfd_core.schemas import face_crops, to_table
from dfd_core.sources.videos import read_videos
from dfd_core.stages.extract import extract_segment
from dfd_core.stages.probe import plan_video
from dfd_core.stages.scoring import score_segments
from tests.clips import astronaut_frames, faceless_frames, write_clip
from tests.ray_nodes import RayNodes, listening_addresses

ROOT = Path(__file__).parent.parent.parent
MODEL = "untrained:mobilenet_v3_small"
OPTIONS = ["--model", MODEL, "--precision", "float32", "--sampling", "interval:0.2", "--segment-s", "1"]
CONFIG = ExtractConfig(sampling=Sampling("interval", 0.2), segment_s=1.0)

NUM_REAL = 3

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory, real_data):
    """Five clips of three seconds, one of them without a face, three real ones, and a file that is no video."""
    folder = tmp_path_factory.mktemp("cluster") / "archive"
    folder.mkdir()
    for number in range(4):
        write_clip(folder / f"face_{number}.mp4", astronaut_frames(75, zoom=1 + number / 10))
    write_clip(folder / "no_face.mp4", faceless_frames(75))
    (folder / "text.mp4").write_text("This is not a video.\n" * 40)
    real = sorted((real_data / "archive").rglob("*.mp4"), key=lambda path: path.stat().st_size)
    for number, path in enumerate(real[:NUM_REAL]):
        (folder / f"real_{number}.mp4").symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def segments(archive):
    """Every segment of the archive and the name of its video, planned in this process."""
    source = read_videos(str(archive)).table
    plans = [plan_video(row, CONFIG) for row in source.select(["plan_key", "uri"]).to_pylist()]
    return [
        (
            video_id,
            {"segment_id": f"{plan['plan_key']}-{number}", "plan_key": plan["plan_key"], "uri": uri,
             "fps": plan["fps"], "duration_s": plan["duration_s"], **segment},
        )
        for plan, uri, video_id in zip(
            plans, source.column("uri").to_pylist(), source.column("video_id").to_pylist(), strict=True
        )
        for number, segment in enumerate(plan["segments"])
    ]  # fmt: skip


TRACE = """
import os as _os
if "DFD_TRACE" in _os.environ:  # a decoding process has it not, and may not write
    with open(_os.environ["DFD_TRACE"], "a") as _file:
        _file.write(f"{__name__} {_os.getsid(0)} {__file__}\\n")
"""
WORKER = "dfd_core.stages.sandbox.sandbox"
"""What a process that has videos decoded loads."""


@pytest.fixture(scope="module")
def working_dir(tmp_path_factory):
    """The project as it would be submitted, in which some modules write down where they are loaded."""
    folder = tmp_path_factory.mktemp("project")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("dfd", "dfd_core", "jobs"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in (".rayignore", ".gitignore", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for module in ("dfd_core/stages/sandbox/sandbox.py", "dfd_core/model/predictor.py", "jobs/score.py"):
        text = (folder / module).read_text()
        traced = re.sub(
            r"^(from __future__ import annotations|from pathlib import Path)$",
            lambda line: line[0] + TRACE, text, count=1, flags=re.M,
        )  # fmt: skip
        assert traced != text
        (folder / module).write_text(traced)
    return folder


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("trace") / "trace.txt"
    path.touch()
    return path


@pytest.fixture(scope="module")
def cluster(trace):
    """A head without CPUs, nodes of 1 and 2 CPUs, the second with a label, and one with a GPU in name."""
    folder = Path(tempfile.mkdtemp(prefix="dfd-", dir="/tmp"))  # socket names must be short
    os.environ["DFD_TRACE"] = str(trace)
    everything = {}
    nodes = RayNodes(folder)
    try:
        nodes.start_head(f'--resources={{"{WRITER}": 2}}')  # the only node that may write results
        nodes.add("cpu1", "--num-cpus=1")
        nodes.add("cpu2", "--num-cpus=2", "--labels=dfd=cpu")
        nodes.add("gpu", "--num-cpus=1", "--num-gpus=1")
        everything |= nodes.nodes
        yield nodes
    finally:
        nodes.nodes |= {f"first {name}": node for name, node in everything.items()}
        nodes.stop()
        del os.environ["DFD_TRACE"]
        shutil.rmtree(folder, ignore_errors=True)


class Job:
    """A submitted job."""

    def __init__(self, cluster, working_dir, *command):
        self.cluster = cluster
        done = cluster.ray(
            "job", "submit", "--no-wait", f"--working-dir={working_dir}", "--", *map(str, command)
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self.name = re.search(r"raysubmit_\w+", done.stdout)[0]

    @property
    def state(self):
        return self.cluster.get(f"/api/jobs/{self.name}")

    def wait(self, limit_s=400, meanwhile=lambda: None):
        deadline_s = time.monotonic() + limit_s
        while (state := self.state)["status"] not in ("SUCCEEDED", "FAILED", "STOPPED"):
            assert time.monotonic() < deadline_s, self.log()
            meanwhile()
            time.sleep(0.5)
        return state

    def log(self):
        return self.cluster.ray("job", "logs", self.name).stdout

    def lines(self):
        """Return the job's own log without what the `ray` command writes around it."""
        return [line for line in self.log().splitlines() if re.match(r"\d\d:\d\d:\d\d ", line)]


def metrics_of(cluster):
    """Return the job's metrics of all nodes, as Prometheus would get them."""
    found = {}
    file = next(cluster.folder.glob("session_2*/")) / ".." / "prom_metrics_service_discovery.json"
    for target in {target for group in json.loads(file.read_text()) for target in group["targets"]}:
        try:
            with urllib.request.urlopen(f"http://{target}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            continue
        for line in re.findall(r"^ray_dfd_.*$", text, flags=re.M):
            name, _, value = line.rpartition(" ")
            labels = dict(re.findall(r'(\w+)="([^"]*)"', name))
            key = (name.partition("{")[0], labels.get("kind") or labels.get("stage"))
            found[key] = max(found.get(key, 0.0), float(value))
    return found


@pytest.fixture(scope="module")
def first_run(cluster, working_dir, archive):
    """The scored archive, the job, and what was seen meanwhile: the metrics' highest values, the addresses listened on."""
    out = archive.parent / "out"
    highest, addresses = {}, set()

    def look():
        addresses.update(
            listening_addresses([pid for node in cluster.nodes.values() for pid in node.processes()])
        )
        for key, value in metrics_of(cluster).items():
            highest[key] = max(highest.get(key, 0.0), value)

    job = Job(cluster, working_dir, "python", "jobs/score.py", archive, *OPTIONS, "--out", out)
    state = job.wait(meanwhile=look)
    assert state["status"] == "SUCCEEDED", job.log()
    return out, job, highest, addresses


def tables_of(out):
    return pq.read_table(out / "videos").to_pylist(), pq.read_table(out / "faces").to_pylist()


def test_the_faces_are_those_of_one_process_without_ray(first_run, segments):
    model = resolve_model(MODEL)
    config = ExtractConfig(sampling=CONFIG.sampling, segment_s=1.0, crop_px=model.card.input_size)
    detect = FrontalFaceDetector()
    rows = [extract_segment(segment, config, detect) for _, segment in segments]
    crops = to_table(rows, face_crops(config.crop_px))
    results = score_segments(crops, load_predictor(model, precision="float32"), crop_px=config.crop_px)
    names = {segment["plan_key"]: video_id for video_id, segment in segments}
    expected = [
        {"video_id": names[row["plan_key"]], **face} for row in results.to_pylist() for face in row["faces"]
    ]
    found = tables_of(first_run[0])[1]
    assert len(found) == len(expected) > 80
    key = lambda row: (row["video_id"], row["frame_index"], row["face_index"])  # noqa: E731
    for mine, theirs in zip(sorted(found, key=key), sorted(expected, key=key), strict=True):
        del theirs["appearance"], mine["track_id"]  # of the log, and of the tables derived from it
        assert mine.pop("p_fake") == pytest.approx(theirs.pop("p_fake"), abs=1e-5)
        assert mine == theirs


def test_every_video_has_its_row(first_run):
    rows = {row["video_id"]: (row["status"], row["error_kind"]) for row in tables_of(first_run[0])[0]}
    scored = {f"face_{number}.mp4": ("scored", None) for number in range(4)}
    scored |= {f"real_{number}.mp4": ("scored", None) for number in range(NUM_REAL)}
    assert rows == scored | {"no_face.mp4": ("no_face", None), "text.mp4": ("failed", "not_a_video")}


def test_the_nodes_run_the_code_that_was_submitted_and_the_gpu_node_scores(first_run, cluster, trace):
    lines = [line.split() for line in trace.read_text().splitlines()]
    assert {line[0] for line in lines} >= {WORKER, "dfd_core.model.predictor", "__main__"}
    assert all(
        "/runtime_resources/working_dir_files/" in path for name, _, path in lines if name != "__main__"
    )
    nodes = {node.process.pid: name for name, node in cluster.nodes.items()}
    assert {nodes.get(int(session)) for name, session, _ in lines if name == "dfd_core.model.predictor"} == {
        "gpu"
    }
    assert {nodes.get(int(session)) for name, session, _ in lines if name == WORKER} >= {
        "cpu1",
        "cpu2",
    }
    assert json.loads((first_run[0] / "run.json").read_text())["model"]["device"] == "cpu"


def test_the_jobs_log_is_its_own_lines(first_run, segments):
    lines = first_run[1].lines()
    assert "9 videos in" in lines[0]
    assert any("UNTRAINED" in line for line in lines)
    assert any(f"{len(segments)} segments to do" in line for line in lines)
    assert "Traceback" not in first_run[1].log()
    assert "9 videos: 7 scored, 1 no_face, 0 partial, 1 failed" in first_run[1].log()


def test_prometheus_gets_videos_faces_failures_and_seconds(first_run, segments):
    highest = first_run[2]
    assert highest["ray_dfd_failures_total", "not_a_video"] == 1
    assert 0 < highest["ray_dfd_faces_total", None] <= len(tables_of(first_run[0])[1])
    assert 0 < highest["ray_dfd_segments_total", None] <= len(segments)
    assert 0 < highest["ray_dfd_videos_total", None] <= 8
    for stage in ("plan", "decode", "detect", "infer"):
        assert highest["ray_dfd_stage_seconds_total", stage] > 0


def test_nothing_listens_beyond_loopback(first_run):
    addresses = first_run[3]
    assert addresses, "nothing was looked at"
    assert [one for one in addresses if not one.endswith("7F") and one != "0" * 24 + "01000000"] == []


PLACES = """
import collections, json, sys, time, ray
sys.path.insert(0, ".")
from dfd.cluster.pools import Pools
ray.init(log_to_driver=False)
nodes = {node["NodeID"]: "gpu" if "GPU" in node["Resources"] else "cpu" for node in ray.nodes()}

@ray.remote
def place():
    time.sleep(4)
    return ray.get_runtime_context().get_node_id()

for count in (3, 4):
    task = place.options(**Pools().extract_options())
    found = ray.get([task.remote() for _ in range(count)])
    print("PLACES", json.dumps(collections.Counter(nodes[one] for one in found)))
"""


def test_extraction_takes_a_gpu_nodes_cpus_only_when_the_others_are_taken(first_run, cluster, working_dir):
    (working_dir / "places.py").write_text(PLACES)
    job = Job(cluster, working_dir, "python", "places.py")
    assert job.wait()["status"] == "SUCCEEDED", job.log()
    found = [json.loads(line) for line in re.findall(r"^PLACES (.*)$", job.log(), flags=re.M)]
    assert found == [{"cpu": 3}, {"cpu": 3, "gpu": 1}]


def test_an_unusable_request_is_the_jobs_status(cluster, working_dir, tmp_path):
    job = Job(cluster, working_dir, "python", "jobs/score.py", "nowhere", *OPTIONS, "--out", tmp_path / "out")
    state = job.wait()
    assert (state["status"], state["driver_exit_code"]) == ("FAILED", 2)
    assert "Nothing is at the source" in job.lines()[-1]
    assert "Traceback" not in job.log()
    assert not (tmp_path / "out").exists()


def commits(out):
    folder = out / "checkpoint" / "segments"
    return [path for path in folder.glob("*.parquet") if "pending" not in path.name]


def wait_until(is_so, job, limit_s=300):
    deadline_s, next_look_s = time.monotonic() + limit_s, 0.0
    while not is_so():
        assert time.monotonic() < deadline_s, job.log()
        if time.monotonic() > next_look_s:
            assert job.state["status"] in ("PENDING", "RUNNING"), job.log()
            next_look_s = time.monotonic() + 2
        time.sleep(0.02)


def num_extractions(trace, node):
    """Return how many processes have loaded the extraction on a node."""
    return sum(line.startswith(f"{WORKER} {node.process.pid} ") for line in trace.read_text().splitlines())


def test_a_stopped_job_resumes_and_lost_nodes_lose_nothing(
    first_run, cluster, working_dir, archive, segments, trace
):
    out = archive.parent / "disturbed"
    command = ["python", "jobs/score.py", archive, *OPTIONS, "--out", out, "--gpus-per-actor", "1"]
    stopped = Job(cluster, working_dir, *command)
    wait_until((out / "plan" / "segments").exists, stopped)
    assert cluster.ray("job", "stop", stopped.name).returncode == 0
    assert stopped.wait()["status"] == "STOPPED"
    assert not (out / "videos").exists()

    cpu2, gpu = cluster.nodes.pop("cpu2"), cluster.nodes.pop("gpu")
    before = num_extractions(trace, cpu2)
    resumed = Job(cluster, working_dir, *command)
    wait_until(lambda: num_extractions(trace, cpu2) > before, resumed)
    cpu2.kill()
    wait_until(lambda: commits(out), resumed)
    gpu.kill()
    ids = pa.concat_tables(map(pq.read_table, commits(out))).column("segment_id")
    assert 1 <= len(ids) < len(segments)
    cluster.add("cpu3", "--num-cpus=2")
    cluster.add("gpu2", "--num-cpus=1", "--num-gpus=1")
    state = resumed.wait()
    assert state["status"] == "SUCCEEDED", resumed.log()
    assert "Opening" not in resumed.log()
    assert "Traceback" not in resumed.log()
    assert tables_of(out) == tables_of(first_run[0])
    ids = pa.concat_tables(map(pq.read_table, commits(out))).column("segment_id").to_pylist()
    assert len(set(ids)) == len(segments)
