"""The Ray Data pipelines of training: index the faces, write them in order, stream them to the workers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.data import Dataset

from dfd.cluster.runtime import plain_errors
from dfd_core.faces.images import FaceColumns
from dfd_core.storage.address import Address
from dfd_core.storage.tables import write_table
from dfd_core.training.augment import Augmentation, augment_face, rng_of
from dfd_core.training.face_index import INDEX, as_landmarks, crops_of_images, image_bytes, index_faces
from dfd_core.training.labelled import Labelled, read_images
from dfd_core.training.placement import Placement

if TYPE_CHECKING:
    from dfd_core.training.batch import Batch

_ARROW: dict[str, Any] = {"batch_format": "pyarrow", "zero_copy_batch": True, "batch_size": 256}
_STREAM_CPUS = 0.5
_FILE_ROWS = 1024
_AHEAD = 2


@dataclass(frozen=True, slots=True)
class FaceTables:
    """The labelled faces as Ray Data reads them.

    Attributes:
        address: Names the file system.
        labelled: What is there.
        image_list: Where the manifest of pictures is kept as a table that Ray Data can read.
    """

    address: Address
    labelled: Labelled
    image_list: Address

    @property
    def columns(self) -> FaceColumns:
        """The names of the columns of `dataset`."""
        manifest = self.labelled.manifest
        if manifest is None:
            assert self.labelled.columns is not None
            return self.labelled.columns
        group, dataset = (name if name in manifest.column_names else None for name in ("group", "dataset"))
        return FaceColumns("image", "video_id", "label", group, dataset)

    def dataset(self) -> Dataset:
        """Return the lazy dataset of pictures: one row a face."""
        if self.labelled.manifest is None:
            fs = self.address.fs
            names = list(astuple(self.columns))
            schema = pq.read_schema(self.labelled.files[0], filesystem=fs).names
            names += ["frame_index"] if "frame_index" in schema else []
            faces = ray.data.read_parquet(list(self.labelled.files), filesystem=fs, num_cpus=1)
            return faces.select_columns([name for name in dict.fromkeys(names) if name])
        write_table(self.image_list, self.labelled.manifest)
        return (
            ray.data.read_parquet(self.image_list.path, filesystem=self.image_list.fs, num_cpus=1)
            .repartition(target_num_rows_per_block=256)
            .map_batches(read_images, num_cpus=1, **_ARROW)  # 1 row : 1 picture
        )


def read_index(tables: FaceTables) -> pa.Table:
    """Return INDEX of all faces.

    Raises:
        DfdError: A table cannot be used.
    """
    index = tables.dataset().map_batches(  # 1 face : 1 row, pixels dropped
        _index, fn_kwargs={"columns": tables.columns}, num_cpus=1, **_ARROW
    )
    with plain_errors():
        blocks = ray.get(index.to_arrow_refs())
    return pa.concat_tables([block for block in blocks if block.num_rows] or [INDEX.empty_table()])


def write_side(tables: FaceTables, placement: Placement, folder: Address) -> None:
    """Write one side's faces in their order into `folder`: PLACED.

    Raises:
        DfdError: It cannot be written.
    """
    shared = ray.put(placement)
    placed = (
        tables.dataset()
        .map_batches(  # 1 face : its positions, mostly 1
            _place, fn_kwargs={"placement": shared, "columns": tables.columns}, num_cpus=1, **_ARROW
        )
        .sort("position")
        .map_batches(_without_repeats, batch_format="pyarrow", batch_size=None, num_cpus=1)
    )
    with plain_errors():
        placed.write_parquet(
            folder.path,
            filesystem=folder.fs,
            mode="overwrite",
            min_rows_per_file=_FILE_ROWS,
            ray_remote_args={"num_cpus": 1},
        )


def _index(faces: pa.Table, *, columns: FaceColumns) -> pa.Table:
    return index_faces(columns.with_text_names(faces), columns)


def _place(faces: pa.Table, *, placement: Any, columns: FaceColumns) -> pa.Table:
    return _fetched(placement).rows(columns.with_text_names(faces), columns)


@lru_cache(maxsize=1)
def _fetched(placement: Any) -> Placement:
    """Return the placement, unpickled once for each process."""
    found: Placement = ray.get(placement)
    return found


def _without_repeats(placed: pa.Table) -> pa.Table:
    """Return a sorted block with each position once: two blocks of the source may hold the same picture of a video."""
    positions = placed.column("position").to_numpy()
    first = np.ones(len(positions), np.bool_)
    first[1:] = positions[1:] != positions[:-1]
    return placed.filter(pa.array(first))


def stream_side(folder: Address, *, input_size: int) -> Dataset:
    """Return the lazy dataset of one side: PLACED with the decoded `crop` in place of `image`, in order."""
    placed = ray.data.read_parquet(folder.path, filesystem=folder.fs, num_cpus=_STREAM_CPUS)
    return placed.map_batches(  # 1 face : 1 crop
        _with_crops, fn_kwargs={"input_size": input_size}, num_cpus=_STREAM_CPUS, **_ARROW
    )


def _with_crops(placed: pa.Table, *, input_size: int) -> pa.Table:
    crops = crops_of_images([image or b"" for image in image_bytes(placed, "image")], input_size)
    size = input_size * input_size * 3
    values = pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(crops), [None, pa.py_buffer(crops)])
    return placed.drop_columns(["image"]).append_column("crop", values)


# --- in a training worker -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Feed:
    """How one worker reads its shard of a side.

    Attributes:
        shard: What `ray.train.get_dataset_shard` returned.
        batch_size: Faces a step on this worker.
        input_size: Side of a crop, pixels.
        num_threads: Threads that augment.
    """

    shard: Any
    batch_size: int
    input_size: int
    num_threads: int = 1

    def validation(self) -> Iterator[Batch]:
        """Yield the shard's faces once, in order."""
        for table in self.shard.iter_batches(batch_size=self.batch_size, batch_format="pyarrow"):
            yield self._batch(table)

    def training(
        self,
        *,
        augmentation: Augmentation,
        seed: int,
        epoch: int,
        shuffle_faces: int,
        fake_weight: float,
        skip: int = 0,
    ) -> Iterator[Batch]:
        """Yield one epoch's batches, augmented, read ahead of the training.

        The order is decided by seed and epoch: faces are drawn from a buffer of `shuffle_faces`, which is filled in the
        order on disk.

        Args:
            augmentation: Of each face.
            seed: Of order and augmentation.
            epoch: From 0.
            shuffle_faces: Size of the buffer.
            fake_weight: What a real face weighs that self-blending makes a fake.
            skip: Steps to leave out, which an interrupted epoch has done.
        """
        tables = self.shard.iter_batches(
            batch_size=self.batch_size,
            batch_format="pyarrow",
            local_shuffle_buffer_size=max(shuffle_faces, self.batch_size),
            local_shuffle_seed=int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0]),
        )

        def augmented(row: int, batch: Batch, landmarks: list[float] | None) -> tuple[Any, bool]:
            return augment_face(
                batch.crops[row],
                is_fake=bool(batch.is_fake[row]),
                landmarks=as_landmarks(landmarks),
                augmentation=augmentation,
                rng=rng_of(seed, epoch, int(batch.position[row])),
            )

        def prepare(table: pa.Table) -> Batch:
            batch = self._batch(table)
            landmarks = table.column("landmarks").to_pylist()
            crops, labels = zip(
                *pool.map(augmented, range(len(table)), repeat(batch), landmarks), strict=True
            )
            is_fake = np.array(labels, np.bool_)
            weight = np.where(is_fake & ~batch.is_fake, np.float32(fake_weight), batch.weight)
            return replace(batch, crops=np.stack(crops), is_fake=is_fake, weight=weight)

        with ThreadPoolExecutor(self.num_threads) as pool, ThreadPoolExecutor(1) as reader:
            kept = (table for step, table in enumerate(tables) if step >= skip)
            pending = []
            while True:
                while len(pending) < _AHEAD and (table := next(kept, None)) is not None:
                    pending.append(reader.submit(prepare, table))
                if not pending:
                    return
                yield pending.pop(0).result()

    def _batch(self, table: pa.Table) -> Batch:
        from dfd_core.training.batch import Batch

        table = table.combine_chunks()
        crop = table.column("crop").combine_chunks()
        crop = crop.chunk(0) if isinstance(crop, pa.ChunkedArray) else crop
        size = self.input_size
        flat = np.frombuffer(crop.buffers()[1], np.uint8)[crop.offset * size * size * 3 :]
        return Batch(
            flat[: len(crop) * size * size * 3].reshape(len(crop), size, size, 3),
            table.column("is_fake").to_numpy(zero_copy_only=False).astype(np.bool_),
            table.column("weight").to_numpy().astype(np.float32),
            table.column("position").to_numpy().astype(np.int64),
        )
