"""URLs of shards: what is shown of them, what is scrubbed, what a web server is told."""

import base64
from pathlib import Path

import pytest

from textune.data.shards.urls import scrubbed, shown, told_of_secrets, web_address
from textune.errors import DataError


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://me:S3CRET@h.org:81/a.jsonl?sig=S3CRET#S3CRET", "https://h.org:81/a.jsonl"),
        ("https://S3CRET@h/a@b.jsonl", "https://h/a@b.jsonl"),
        ("http://me:S3/CRET?x#y@h/a.jsonl", "http://h/a.jsonl"),
        ("http://me:S3CRET@[::1]:80/a.jsonl", "http://[::1]:80/a.jsonl"),
        ("http://[::1]/a@b", "http://[::1]/a@b"),
        ("http://h:80/a@b?x=y@z", "http://h:80/a@b"),
        ("ftp://me:S3CRET@h/part-?.jsonl", "ftp://h/part-?.jsonl"),
        ("s3://b/a.jsonl?versionId=1", "s3://b/a.jsonl"),
        ("zip://a.jsonl::https://me:S3CRET@h/a.zip?sig=S3CRET", "zip://a.jsonl::https://h/a.zip"),
        ("simplecache::ftp://me:S3CRET@h/a.jsonl", "simplecache::ftp://h/a.jsonl"),
        ("github://org:repo@main/a.jsonl", "github://org:repo@main/a.jsonl"),
        ("hf://datasets/me/it@main/a.jsonl", "hf://datasets/me/it@main/a.jsonl"),
        ("/folder/a?b#c@d.jsonl", "/folder/a?b#c@d.jsonl"),
    ],
)
def test_what_is_shown(url: str, name: str) -> None:
    assert shown(url) == name
    assert bool(told_of_secrets([url])) == (url != name)
    assert "S3CRET" not in " ".join(told_of_secrets([url, url]))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("nonnumeric port: 'S3%20CRET@127.0.0.1'", "nonnumeric port: '...@127.0.0.1'"),
        ("no login for S3 CRET", "no login for ..."),
        ("'/a b.jsonl?sig=HUSH'", "'/a b.jsonl?...'"),
        ("HUSH is too old", "... is too old"),
        ("sent to https://you:OTHER@h/b?sig=OTHER, which fails", "sent to https://h/b which fails"),
        ("see ftp://me:S3%20CRET@h/a.jsonl?sig=HUSH", "see ftp://h/a.jsonl"),
    ],
)
def test_what_libraries_say_is_scrubbed(text: str, left: str) -> None:
    assert scrubbed(text, "ftp://me:S3%20CRET@h/a.jsonl?sig=HUSH") == left


def test_the_notice_names_the_first() -> None:
    urls = ["s3://b/a.jsonl", "https://me:S3CRET@h/a.jsonl", "https://h/b.jsonl?sig=S3CRET"]
    (notice,) = told_of_secrets(urls)
    assert "user information or query of https://h/a.jsonl and 1 more URL" in notice and "netrc" in notice
    assert told_of_secrets(urls[:1]) == []


def test_authorization_of_the_url_and_of_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    url, header = web_address("https://m%40e:p%3Aw@h:81/a?x=1#f")
    assert (url, base64.b64decode(header.removeprefix("Basic "))) == ("https://h:81/a?x=1", b"m@e:p:w")
    assert web_address("https://h/a") == ("https://h/a", "")
    (tmp_path / "netrc").write_text("machine h login me password S3CRET\ndefault login all password all\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert base64.b64decode(web_address("https://h/a").authorization.removeprefix("Basic ")) == b"me:S3CRET"
    assert web_address("https://other/a").authorization == ""
    (tmp_path / "netrc").write_text("machine h login me pass S3CRET")
    with pytest.raises(DataError, match="netrc, line 1") as caught:
        web_address("https://h/a")
    assert "S3CRET" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://", "http://[::1/a", "http://me:S3/CRET@h/a", "http://h:S3CRET/a", "http://h/a b.jsonl?sig=S3CRET"]
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(DataError, match="is not a URL of a web server") as caught:
        web_address(url)
    assert "CRET@" not in str(caught.value) and "sig=" not in str(caught.value)
