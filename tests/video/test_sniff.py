from hypothesis import given
from hypothesis import strategies as st

from dfd_core.video.sniff import declared_size, other_kind


@given(st.integers(0, (1 << 56) - 2), st.integers(0, 100))
def test_the_declared_size_of_a_matroska_file_is_read_back(size, header_size):
    head = b"\x1a\x45\xdf\xa3" + bytes([0x80 | header_size]) + bytes(header_size) + b"\x18\x53\x80\x67"
    body = (size | 1 << 56).to_bytes(8, "big")
    assert declared_size(head + body) == len(head) + 8 + size
    assert declared_size(head + b"\x01" + b"\xff" * 7) is None
    assert declared_size(head) is None


@given(st.binary(max_size=300))
def test_no_head_of_a_file_makes_its_reader_fail(head):
    other_kind(head)
    declared_size(head)
