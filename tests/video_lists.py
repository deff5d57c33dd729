"""Manifests written for tests, and the names that are read from them."""

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


def ids(source):
    return source.table.column("video_id").to_pylist()


def write_manifest(path, rows):
    if path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)
