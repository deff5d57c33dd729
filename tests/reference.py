"""The seed's loop, written as the report has it: every frame decoded by OpenCV, dlib on the chosen ones."""

import cv2
import dlib
import numpy as np

_DETECTOR = dlib.get_frontal_face_detector()


def seed_loop(path, *, crop_px=128):
    """Yield `(frame_index, (left, top, right, bottom), crop)` of every face; the crop is RGB and clipped to the frame.

    Two faults of the seed are mended here, as they are in the product: it detected and scored on BGR, and it failed on
    a box that leaves the frame.
    """
    capture = cv2.VideoCapture(str(path))
    stride = int(capture.get(cv2.CAP_PROP_FPS)) + 1
    index = 0
    while True:
        ok, bgr = capture.read()
        if not ok:
            return
        if index % stride == 0:
            rgb = np.ascontiguousarray(bgr[:, :, ::-1])
            for box in _DETECTOR.run(rgb, 0)[0]:
                crop = rgb[max(box.top(), 0) : box.bottom(), max(box.left(), 0) : box.right()]
                yield (
                    index,
                    (box.left(), box.top(), box.right(), box.bottom()),
                    cv2.resize(crop, (crop_px, crop_px)),
                )
        index += 1
