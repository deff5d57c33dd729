"""A video cannot reach outside its file: no connection arrives, no byte of a secret gets out."""

import socket
import threading

import pyarrow.parquet as pq
import pytest

from tests.commands.test_score import MODEL, score, videos_of

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

SECRET = "correct-horse-battery-staple"
SUFFIXES = ("mp4", "mkv", "avi", "mov", "ts", "webm", "flv", "wmv", "mpg")


@pytest.fixture
def listener():
    """A server on loopback that notes every connection."""
    met = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        over = threading.Event()

        def accept():
            while not over.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                met.append(connection.recv(200))
                connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1], met
        over.set()
        thread.join()


def hostile_contents(url, secret):
    """Files that make a careless FFmpeg open another resource."""
    segment = f"#EXTINF:10.0,\n{url}/segment.ts\n"
    return {
        "hls_http": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n{segment}#EXT-X-ENDLIST\n",
        "hls_file": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10.0,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        "hls_concat": f"#EXTM3U\n#EXTINF:1,\nconcat:{url}/a|file://{secret}\n#EXT-X-ENDLIST\n",
        "hls_master": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}/list.m3u8\n",
        "hls_key": f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{url}/key"\n{segment}#EXT-X-ENDLIST\n',
        "concat": f"ffconcat version 1.0\nfile '{secret}'\nfile '{url}/a.mp4'\n",
        "dash": f'<?xml version="1.0"?><MPD><Period><BaseURL>{url}/</BaseURL></Period></MPD>',
        "smil": f'<smil><body><video src="{url}/a.mp4"/></body></smil>',
        "sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video {url.rpartition(':')[2]} RTP/AVP 96\n",
        "reference": f"[Reference]\nRef1={url}/a.asf\n",
        "asx": f'<asx version="3.0"><entry><ref href="{url}/a.wmv"/></entry></asx>',
        "subtitles": f"[Script Info]\nVideo File: {secret}\n",
        "script": f'import "{secret}"\nAviSource("{secret}")\n',
        "rtsp": f"RTSPtextRTSP://{url.removeprefix('http://')}/a\n",
    }


def test_no_connection_arrives_and_no_secret_gets_out(listener, tmp_path):
    port, met = listener
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    archive = tmp_path / "archive"
    archive.mkdir()
    contents = hostile_contents(f"http://127.0.0.1:{port}", secret)
    for name, content in contents.items():
        for suffix in SUFFIXES:
            (archive / f"{name}.{suffix}").write_text(content)
    out = tmp_path / "out"
    done = score(archive, "--model", MODEL, "--out", out)
    assert done.returncode == 1, done.stderr
    rows = videos_of(out)
    assert len(rows) == len(contents) * len(SUFFIXES)
    assert {row["status"] for row in rows.values()} == {"failed"}
    assert {row["error_kind"] for row in rows.values()} <= {"not_a_video", "unreadable"}
    assert met == []
    written = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    for table in (out / "videos", out / "plan" / "videos"):
        written.append(repr(pq.read_table(table).to_pylist()).encode())
    written += [done.stdout.encode(), done.stderr.encode()]
    assert not any(SECRET.encode() in content for content in written)


@pytest.mark.parametrize("where", ["source", "manifest", "model", "out"])
def test_credentials_in_an_address_are_refused_and_appear_nowhere(tmp_path, clip_folder, where):
    uri = "s3://AKIAEXAMPLE:hunter2@127.0.0.1/bucket"
    (tmp_path / "list.csv").write_text(f"uri\n{uri}/a.mp4\n")
    arguments = {"source": str(clip_folder), "model": MODEL, "out": str(tmp_path / "out")}
    arguments |= {"source": str(tmp_path / "list.csv")} if where == "manifest" else {where: uri}
    done = score(arguments["source"], "--model", arguments["model"], "--out", arguments["out"])
    assert done.returncode == 2
    assert "hunter2" not in done.stdout + done.stderr
    assert not (tmp_path / "out").exists()
