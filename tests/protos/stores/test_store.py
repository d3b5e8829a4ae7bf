"""Addresses of stores: which are taken, which are refused, and what of them is never told."""

from hashlib import md5, sha1, sha256
from pathlib import Path

import pytest

from protos.errors import StoreError, UsageError
from protos.stores.store import KINDS, Item, check, failing

SECRET = "hidden"


@pytest.mark.parametrize("scheme", KINDS)
def test_each_kind_is_an_extra(scheme: str) -> None:
    assert f"\n{scheme} = [" in (Path(__file__).parents[3] / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    "url",
    [
        *(
            "s3://",
            "s3:///models",
            "s3://bucket//models",
            "s3://bucket/../models",
            "s3://bucket/a?key=hidden",
            "s3://a b/c",
        ),
        *("gs://user:hidden@bucket", "hf://models", "hf://hf_hidden@team/models", "hf://user:hidden@team/models"),
        *("oci://host", "oci://user:hidden@host/models", "oci://host:port/models", "oci://host/Models"),
        *("http://user:hidden@host/models", "file:///models"),
    ],
)
def test_an_address_of_no_kind_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(url)
    assert SECRET not in str(caught.value)
    assert "expected" in str(caught.value)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("no http://user:hidden@host/path here", "no http://host/path here"),
        ('for "https://host/x?X-Amz-Signature=hidden&a=b", sorry', 'for "https://host/x", sorry'),
    ],
)
def test_what_a_library_says_of_a_url_is_told_without_its_secrets(raised: str, said: str) -> None:
    with pytest.raises(StoreError) as caught, failing("s3://bucket"):
        raise ValueError(raised)
    assert str(caught.value) == f"s3://bucket: {said}"
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("digest", "holds"),
    [
        (f"md5:{md5(b'model').hexdigest()}", True),
        (f"sha256:{sha256(b'model').hexdigest()}", True),
        (f"git:{sha1(b'blob 5' + bytes(1) + b'model').hexdigest()}", True),
        (f"md5:{md5(b'other').hexdigest()}", False),
        (None, None),
    ],
)
def test_a_store_tells_by_its_own_kind_of_hash_whether_it_has_a_file(
    tmp_path: Path, digest: str | None, holds: bool | None
) -> None:
    (file := tmp_path / "file").write_bytes(b"model")
    assert Item(5, "stamp", digest).holds(file) is holds
    assert Item(6, "stamp", digest).holds(file) is False
