import hashlib

import fsspec
import pyarrow as pa

from dfd_core.run.input_hashes import hash_inputs
from dfd_core.schemas import INPUT_HASHES, check
from dfd_core.storage.address import Address
from dfd_core.storage.tables import dataset


def test_every_input_that_can_be_read_has_its_hash(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"local")
    fsspec.filesystem("memory").pipe(f"/{tmp_path.name}/b.mp4", b"remote" * 1_000_000)
    uris = [f"{tmp_path}/a.mp4", f"memory://{tmp_path.name}/b.mp4", f"{tmp_path}/none.mp4", "nonsense://x"]
    requests = pa.table({"plan_key": ["a", "b", "c", "d"], "uri": uris})
    folder = Address.parse(str(tmp_path / "hashes"))
    hash_inputs(requests, folder)
    hash_inputs(requests.slice(2), folder)
    found = check(dataset(folder, INPUT_HASHES).to_table(), INPUT_HASHES).to_pylist()
    assert found == [
        {"plan_key": "a", "sha256": hashlib.sha256(b"local").hexdigest(), "etag": None},
        {"plan_key": "b", "sha256": hashlib.sha256(b"remote" * 1_000_000).hexdigest(), "etag": None},
    ]
