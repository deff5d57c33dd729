import time
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from dfd_core import schemas
from dfd_core.config import ExtractConfig, Limits, Sampling
from dfd_core.errors import VideoStorageError
from dfd_core.faces.detect import Face, FrontalFaceDetector, widen
from dfd_core.faces.images import decode, resized
from dfd_core.schemas import SEGMENT, SEGMENT_PICTURES, VIDEO_PLAN, to_table
from dfd_core.stages import plan
from dfd_core.stages.extract import extract_segment
from dfd_core.stages.probe import plan_video
from dfd_core.step_clock import STEPS, StepClock
from dfd_core.video.opening import open_video, retried
from tests.clips import astronaut_frames, write_clip
from tests.reference import seed_loop
from tests.video.clips import encode, x264


@pytest.fixture(scope="module")
def detect():
    return FrontalFaceDetector()


def plan_of(path, config=None):
    row = plan_video({"plan_key": "k", "uri": str(path)}, config or ExtractConfig())
    return to_table([row], VIDEO_PLAN).to_pylist()[0]


def extract(path, detect, config=None):
    config = config or ExtractConfig()
    video = plan_of(path, config)
    rows = [
        {"segment_id": plan.segment_id("k", n), "plan_key": "k", "uri": str(path), "fps": video["fps"]}
        | {"duration_s": video["duration_s"]}
        | part
        for n, part in enumerate(video["segments"])
    ]
    found = [extract_segment(row, config, detect) for row in to_table(rows, SEGMENT).to_pylist()]
    schema = schemas.face_crops(config.crop_px) if config.image_format is None else SEGMENT_PICTURES
    return to_table(found, schema).to_pylist()


def faces_of(rows):
    return [face for row in rows for face in row["faces"]]


@pytest.mark.parametrize("name", ["good_a.mp4", "good_c.webm", "sub/good_b.mkv"])
def test_boxes_and_crops_are_the_seeds_to_the_last_bit(clip_folder, detect, name):
    rows = extract(clip_folder / name, detect)
    mine = [
        (f["frame_index"], (f["left"], f["top"], f["right"], f["bottom"]), f["crop"]) for f in faces_of(rows)
    ]
    theirs = [(index, box, crop.tobytes()) for index, box, crop in seed_loop(clip_folder / name)]
    assert mine == theirs
    assert mine


def test_a_plan_has_the_facts_and_one_segment_for_a_short_video(clip_folder):
    row = plan_of(clip_folder / "good_a.mp4")
    assert (row["width"], row["height"], row["fps"]) == (320, 240, 25.0)
    assert row["duration_s"] == pytest.approx(3.0, abs=0.05)
    assert row["segments"] == [plan.WHOLE_VIDEO.as_row()]
    assert row["error_kind"] is None


@pytest.mark.parametrize("sampling", ["stride", "interval:0.4", "uniform:5"])
def test_cut_into_segments_or_not_the_faces_are_the_same(clip_folder, detect, sampling):
    whole = extract(clip_folder / "good_a.mp4", detect, ExtractConfig(sampling=Sampling.parse(sampling)))
    cut = extract(
        clip_folder / "good_a.mp4", detect, ExtractConfig(sampling=Sampling.parse(sampling), segment_s=0.9)
    )
    assert len(whole) == 1
    assert len(cut) > 1
    assert faces_of(cut) == faces_of(whole)
    assert faces_of(whole)


KEYFRAMES = Sampling.parse("keyframes")


def whole_and_cut(clip, detect, segment_s):
    """Return the rows of a clip sampled by keyframes, as one segment and as several."""
    return (extract(clip, detect, ExtractConfig(sampling=KEYFRAMES, segment_s=s)) for s in (600.0, segment_s))


@pytest.mark.parametrize(
    ("group", "indices"), [(10, [0, 30, 60]), (1, [0, 26, 52]), (40, [0, 40]), (1000, [0])]
)
def test_keyframes_are_taken_no_closer_than_a_stride_whole_or_cut(tmp_path, detect, group, indices):
    options = {"g": str(group), "sc_threshold": "0"}
    clip = write_clip(tmp_path / "clip.mp4", astronaut_frames(75), options=options)
    whole, cut = whole_and_cut(clip, detect, 0.9)
    assert [row["num_frames"] for row in whole] == [len(indices)]
    assert [row["num_frames"] for row in cut] == [1] * len(
        indices
    )  # a segment without a keyframe is left out
    every = faces_of(extract(clip, detect, ExtractConfig(sampling=Sampling.parse("interval:0.04"))))
    assert faces_of(whole) == faces_of(cut) == [face for face in every if face["frame_index"] in indices]
    assert [face["frame_index"] for face in faces_of(whole)] == indices


def test_where_packets_do_not_tell_the_keyframes_are_those_of_the_decoder(tmp_path, detect):
    options = {"g": "12", "bf": "2"}
    clip = write_clip(tmp_path / "clip.avi", astronaut_frames(75), codec="mpeg4", options=options)
    with av.open(str(clip)) as container:
        keyframes = [i for i, frame in enumerate(container.decode(video=0)) if frame.key_frame]
    assert keyframes[:4] == [0, 12, 24, 36]
    for rows in whole_and_cut(clip, detect, 0.9):
        assert [face["frame_index"] for face in faces_of(rows)] == [0, 36, 72]


def test_a_video_that_shows_no_keyframe_gives_its_first_frame_whole_or_cut(tmp_path, detect):
    clip = encode(  # the only keyframe lies before the edit
        tmp_path / "clip.mp4",
        "libx264",
        draw=lambda i, *size: astronaut_frames(1, *size)[0],
        size=(320, 240),
        options=x264("keyint=250:scenecut=0"),
        pts=range(-23, 37),
        container_options={"avoid_negative_ts": "disabled"},
    )
    (first,) = [face for face in faces_of(extract(clip, detect)) if face["frame_index"] == 0]
    for rows in whole_and_cut(clip, detect, 0.5):
        assert faces_of(rows) == [first]
        assert rows[0]["error_kind"] is None


@pytest.mark.parametrize(
    ("name", "kind"), [("text.mp4", "not_a_video"), ("empty.mp4", "empty"), ("nothing.mp4", "missing")]
)
def test_a_video_that_cannot_be_opened_is_a_row_of_the_plan(clip_folder, name, kind):
    row = plan_of(clip_folder / name)
    assert (row["error_kind"], row["segments"]) == (kind, [])
    assert row["error_message"]
    assert "\n" not in row["error_message"]
    assert str(clip_folder) not in row["error_message"]


def test_a_truncated_video_keeps_what_decodes_and_says_what_does_not(clip_folder, detect):
    (row,) = extract(clip_folder / "truncated.mp4", detect)
    assert row["error_kind"] in ("truncated", "damaged")
    assert row["num_frames"] > 0
    assert row["faces"]


def test_limits_refuse_before_anything_is_decoded(clip_folder):
    large = plan_of(clip_folder / "good_a.mp4", ExtractConfig(limits=Limits(max_pixels=1000)))
    long = plan_of(clip_folder / "good_a.mp4", ExtractConfig(limits=Limits(max_duration_s=1.0)))
    assert (large["error_kind"], long["error_kind"]) == ("too_large", "too_long")


def test_a_fault_of_ours_is_a_row_of_its_own_kind(clip_folder):
    def broken(rgb):
        raise ValueError("a mistake")

    (row,) = extract(clip_folder / "good_a.mp4", broken)
    assert row["error_kind"] == "unexpected"
    assert row["error_message"] == "ValueError: a mistake"


def test_a_margin_widens_the_crop_and_not_the_stored_box(clip_folder, detect):
    plain = faces_of(extract(clip_folder / "good_a.mp4", detect))
    wide = faces_of(extract(clip_folder / "good_a.mp4", detect, ExtractConfig(margin=0.3, crop_px=96)))
    assert [face["left"] for face in wide] == [face["left"] for face in plain]
    assert {len(face["crop"]) for face in wide} == {96 * 96 * 3}


class FlakyStorage:
    """Opens videos as the real thing does, after failing a number of times."""

    def __init__(self, failures):
        self.failures = failures
        self.opened = 0

    def __call__(self, uri):
        self.opened += 1
        if self.opened <= self.failures:
            raise VideoStorageError("The storage failed: it is busy")
        return open_video(uri)


@pytest.mark.parametrize(("failures", "kind"), [(0, None), (2, None), (99, "storage")])
def test_a_storage_that_fails_for_a_while_is_asked_again(clip_folder, monkeypatch, failures, kind):
    monkeypatch.setattr(retried, "__kwdefaults__", {"delays_s": (0.0, 0.0, 0.0)})
    flaky = FlakyStorage(failures)
    row = plan_video(
        {"plan_key": "k", "uri": str(clip_folder / "good_a.mp4")}, ExtractConfig(), open_video=flaky
    )
    assert row["error_kind"] == kind
    assert flaky.opened == min(failures, 3) + 1


@pytest.mark.parametrize(("margin", "crop_px"), [(0.0, 96), (0.0, 299), (0.35, 128)])
def test_a_picture_resized_later_is_the_crop_to_the_last_bit(clip_folder, detect, margin, crop_px):
    clip = clip_folder / "good_a.mp4"
    crops = faces_of(extract(clip, detect, ExtractConfig(margin=margin, crop_px=crop_px)))
    pictures = faces_of(extract(clip, detect, ExtractConfig(margin=margin, image_format="png")))
    assert [resized(decode(face["image"]), crop_px).tobytes() for face in pictures] == [
        face["crop"] for face in crops
    ]
    keys = ("frame_index", "time_s", "face_index", "left", "detector_confidence")
    assert [[face[key] for key in keys] for face in pictures] == [
        [face[key] for key in keys] for face in crops
    ]


def test_a_picture_has_the_size_of_its_widened_box(clip_folder, detect):
    for margin in (0.0, 0.2):
        (row,) = extract(clip_folder / "good_a.mp4", detect, ExtractConfig(margin=margin, image_format="png"))
        assert row["num_faces"] == len(row["faces"]) > 0
        for face in row["faces"]:
            box = Face(face["left"], face["top"], face["right"], face["bottom"], 0.0)
            left, top, right, bottom = widen(box, margin, width=320, height=240)
            assert decode(face["image"]).shape == (bottom - top, right - left, 3)


def test_jpeg_is_near_and_smaller(clip_folder, detect):
    png, jpeg = (
        faces_of(extract(clip_folder / "good_a.mp4", detect, ExtractConfig(image_format=image_format)))
        for image_format in ("png", "jpeg")
    )
    for lossless, lossy in zip(png, jpeg, strict=True):
        assert len(lossy["image"]) < len(lossless["image"])
        difference = decode(lossless["image"]).astype(int) - decode(lossy["image"])
        assert 0 < abs(difference).mean() < 3


def test_pictures_that_would_not_fit_into_a_row_end_the_segment_with_what_there_is(
    clip_folder, detect, monkeypatch
):
    monkeypatch.setattr("dfd_core.stages.extract._MAX_IMAGES_BYTES", 20_000)
    (row,) = extract(clip_folder / "good_a.mp4", detect, ExtractConfig(image_format="png"))
    assert row["error_kind"] == "out_of_memory"
    assert "--segment-s" in row["error_message"]


def find_nothing(rgb):
    return []


def seconds_of(path, detect):
    """Return the wall-clock and the CPU seconds of a video's only segment by step, each with its sum under ""."""
    (row,) = extract(path, detect)
    assert row["error_kind"] is None
    return [
        {step: row[name][f"{step}_s"] for step in STEPS} | {"": sum(row[name].values())}
        for name in ("extract_seconds", "extract_cpu_seconds")
    ]


def test_the_steps_take_all_the_seconds_that_there_are(clip_folder, detect):
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    plan_of(clip_folder / "good_a.mp4")
    planned_s, planned_cpu_s = time.perf_counter(), time.process_time()
    wall, cpu = seconds_of(clip_folder / "good_a.mp4", detect)
    lasted_s, lasted_cpu_s = time.perf_counter() - planned_s, time.process_time() - planned_cpu_s
    again_s, again_cpu_s = planned_s - began_s, planned_cpu_s - began_cpu_s
    assert lasted_s - 3 * again_s - 0.05 < wall[""] <= lasted_s
    assert lasted_cpu_s - 3 * again_cpu_s - 0.05 < cpu[""] <= lasted_cpu_s
    assert min(wall.values()) > 0


def test_converting_is_told_apart_from_decoding(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (4, 720, 1280, 3), np.uint8)
    raw = write_clip(
        tmp_path / "raw.nut", frames, codec="rawvideo", fps=Fraction(1, 2), pixel_format="yuv420p10le"
    )
    long = write_clip(tmp_path / "long.mp4", astronaut_frames(80, 640, 480), fps=100)
    _, of_raw = seconds_of(raw, find_nothing)  # every frame, of which nothing has to be decoded
    assert of_raw["convert"] > 2 * of_raw["decode"]
    _, of_long = seconds_of(long, find_nothing)  # one frame
    assert 0 < of_long["convert"] < of_long["decode"]


def test_measuring_costs_less_than_a_hundredth(clip_folder, detect):
    (row,) = extract(clip_folder / "good_a.mp4", detect)  # frames are 320x240: larger ones take longer
    frame_s = sum(row["extract_cpu_seconds"].values()) / row["num_frames"]
    clock, began_s = StepClock("seek"), time.process_time()
    for _ in range(1000):
        for step in ("decode", "convert", "decode", "detect", "crop"):
            clock.enter(step)
    assert (time.process_time() - began_s) / 1000 < frame_s / 100


def test_faces_found_in_a_scaled_frame_are_cut_from_the_whole_one(tmp_path, detect):
    clip = write_clip(tmp_path / "large.mp4", astronaut_frames(30, 960, 720), fps=25)
    found = faces_of(extract(clip, FrontalFaceDetector(max_side_px=320)))
    assert [face["frame_index"] for face in found] == [0, 26]
    capture = cv2.VideoCapture(str(clip))
    frames = [capture.read()[1] for _ in range(27)]
    for face in found:
        rgb = np.ascontiguousarray(frames[face["frame_index"]][:, :, ::-1])
        cut = rgb[face["top"] : face["bottom"], face["left"] : face["right"]]
        assert min(cut.shape[:2]) > 200
        assert face["crop"] == cv2.resize(cut, (128, 128)).tobytes()
    assert found != faces_of(extract(clip, detect))


def test_a_frame_that_is_small_enough_gives_the_faces_of_before(clip_folder, detect):
    plain = extract(clip_folder / "good_a.mp4", detect)
    scaled = extract(clip_folder / "good_a.mp4", FrontalFaceDetector(max_side_px=320))
    assert faces_of(scaled) == faces_of(plain) != []
