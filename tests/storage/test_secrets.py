"""The forms in which addresses carry secrets: each is refused as an address and redacted from text."""

import time

import pytest

from dfd_core.errors import RequestError
from dfd_core.storage.address import Address
from dfd_core.storage.secrets import has_credentials, redacted

SECRET = "hunter2Zz"
FORMS = [
    f"https://ann:{SECRET}@host/a.mp4",
    f"https://{SECRET}@host/a.mp4",
    f"s3://AKIA:{SECRET}@bucket/a.mp4",
    f"hdfs://ann:{SECRET}@host/a.mp4",
    f"abfs://account:{SECRET}@host.dfs.core.windows.net/a.mp4",
    f"zip://a.mp4::https://ann:{SECRET}@host/x.zip",
    f"simplecache::s3://AKIA:{SECRET}@bucket/a.mp4",
    f"filecache://x::https://host/a.mp4?token={SECRET}",
    f"https://host/a.mp4?token={SECRET}",
    f"https://host/a.mp4?access_token={SECRET}&part=1",
    f"https://host/a b.mp4?token={SECRET}",
    f"https://host/a.mp4#token={SECRET}",
    f"https://host/a.mp4#part=1&access_token={SECRET}",
    f"https://host/a.mp4;token={SECRET}",
    f"https://host/a.mp4?hdnts=st=1~exp=2~acl=/*~hmac={SECRET}",
    f"https://host/a.mp4?hdnea=exp=2~hmac={SECRET}",
    f"https://host/hdntl=exp=2~acl=/*~data=hdntl~hmac={SECRET}/a.mp4",
    f"https://bucket.s3.amazonaws.com/a.mp4?X-Amz-Algorithm=AWS4&X-Amz-Expires=9&X-Amz-Signature={SECRET}",
    f"https://bucket.s3.amazonaws.com/a.mp4?X-Amz-Credential={SECRET}%2F2026",
    f"https://bucket.s3.amazonaws.com/a.mp4?X-Amz-Security-Token={SECRET}",
    f"https://bucket.s3.amazonaws.com/a.mp4?AWSAccessKeyId=A&Expires=9&Signature={SECRET}",
    f"https://storage.googleapis.com/b/a.mp4?X-Goog-Signature={SECRET}",
    f"https://account.blob.core.windows.net/c/a.mp4?sv=2024-11-04&sp=r&sig={SECRET}",
    f"https://d1.cloudfront.net/a.mp4?Expires=9&Policy={SECRET}&Key-Pair-Id=K",
    f"https://d1.cloudfront.net/a.mp4?Expires=9&Key-Pair-Id={SECRET}",
    f"https://host/a.mp4?md5={SECRET}&expires=9",
    f"https://host/a.mp4?x%2Dauth={SECRET}",
    f"https://host/a.mp4?jwt={SECRET}",
    f"https://host/a.mp4?api_key={SECRET}",
    f"HTTPS://host/a.mp4?TOKEN={SECRET}",
]
INNOCENT = [
    "s3://bucket/a.mp4",
    "s3://bucket/a@b.mp4",
    "s3://bucket/key=5/a.mp4",
    "s3://bucket/a.mp4?region=eu&endpoint_override=h:9000",
    "abfs://container@account.dfs.core.windows.net/a.mp4",
    "https://host/a.mp4?design=1&author=x&assigned=2",
    "https://host/a.mp4#t=10,20",
    "seen by me@host, at 10:30; no address",
    "a=b&token=c in words without an address",
]


@pytest.mark.parametrize("uri", FORMS)
def test_an_address_with_a_secret_is_refused_without_repeating_it(uri):
    assert has_credentials(uri)
    with pytest.raises(RequestError) as refusal:
        Address.parse(uri)
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize("uri", FORMS)
@pytest.mark.parametrize("text", ["{}", "GET {} failed", "'{}'", '{{"url": "{}"}}', "<a href='{}'>", "{} {}"])
def test_a_secret_is_redacted_wherever_the_address_stands(uri, text):
    assert SECRET not in redacted(text.format(uri, uri))


@pytest.mark.parametrize("uri", FORMS)
def test_a_secret_in_an_address_within_an_address_is_redacted(uri):
    from urllib.parse import quote

    assert SECRET not in redacted(f"https://proxy/?u={quote(uri, safe='')}&x=1")


@pytest.mark.parametrize("text", INNOCENT)
def test_what_holds_no_secret_stays_as_it_is(text):
    assert not has_credentials(text)
    assert redacted(text) == text


def test_a_redacted_address_is_redacted_once():
    once = redacted(" ".join(FORMS))
    assert redacted(once) == once


def test_a_long_text_is_redacted_in_linear_time():
    for text in (
        "a" * 100_000,
        "/key" * 20_000,
        "&key=1" * 20_000,
        "%26" * 50_000,
        "%3A%2F%2F" * 20_000,
        "://" * 50_000,
    ):
        started_s = time.process_time()
        redacted("https://host/?" + text)
        assert time.process_time() - started_s < 2.0
