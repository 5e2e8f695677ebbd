"""Secrets in URLs, in any sentence that an operator reads."""

import time

import pytest

from connectors.messages.url_secrets import mask_urls


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://user:hunter2@host/v1", "http://********@host/v1"),
        ("http://hunter2@host:80/v1", "http://********@host:80/v1"),
        ("http://user:hun@hunter2@host/v1", "http://********@host/v1"),
        ("redis://:hunter2@host.", "redis://********@host."),
        ("[\"http://a/v1\", 'https://u:hunter2@b/v1']", "[\"http://a/v1\", 'https://********@b/v1']"),
        ("https://store/clip.mp4?X-Amz-Signature=hunter2&a=b is gone", "https://store/clip.mp4?******** is gone"),
        ("url=URL('https://store/c?sig=hunter2')", "url=URL('https://store/c?********')"),
        ('"GET /c.mp4?X-Goog-Signature=hunter2 HTTP/1.1" 200', '"GET /c.mp4?X-Goog-Signature=******** HTTP/1.1" 200'),
        ("'user:hunter2@broker:9092' is not host:port", "'********@broker:9092' is not host:port"),
        ("a:9092,user:hunter2@broker:9092", "********@broker:9092"),  # a password may hold a comma
    ],
)
def test_passwords_and_queries_are_masked(text: str, masked: str) -> None:
    assert mask_urls(text) == masked
    assert "hunter2" not in masked


@pytest.mark.parametrize(
    "text",
    ["Status: http://127.0.0.1:8480", "at 12:30? me@example.org", "https://host/a@b", "https://host:443/a@b", "Why?"],
)
def test_the_rest_stays(text: str) -> None:
    assert mask_urls(text) == text


@pytest.mark.parametrize("piece", ["a://", "a:", "a.", ",a:b", "?a=", "&token_", "http://a:b?"])
def test_a_long_text_takes_no_long_time(piece: str) -> None:
    begun_s = time.process_time()

    mask_urls(piece * 50_000 + "@ ?")

    assert time.process_time() - begun_s < 5
