"""Secrets in URLs, masked: a user's password, and a query, which may hold a signature or a key.

For what an operator reads: logs, errors, `check`, the status. A URL that is used stays as it is.
"""

import re

MASK = "********"

# every repetition has a bound: the texts may be a stranger's, and must not take long
_SCHEME = r"\b[A-Za-z][A-Za-z0-9+.-]{0,31}:(?://|\\/\\/)"
_USER = re.compile(rf"(?P<scheme>{_SCHEME})[^\s/?#\"'<>]{{0,1024}}@")
_QUERY = re.compile(rf"(?P<url>{_SCHEME}[^\s?#\"'<>]{{0,2048}}\?)[^\s#\"'<>)\]}},]+")
# without a scheme: the address of a broker, a request's target in a client's debug line
_USER_ALONE = re.compile(r"(?<![^\s\"'=(\[{,/])[^\s/@:\"'=(\[{,]{1,256}:[^\s/@\"']{1,256}@(?=[A-Za-z0-9\[])")
_PARAMETER = re.compile(
    r"(?P<name>[?&](?:x-(?:amz|goog|oss|ms)-[a-z0-9-]{1,64}|awsaccesskeyid|googleaccessid|sig|signature|[a-z_]{0,32}token|"
    r"api[_-]?key|key|password|secret)=)[^\s&#\"'<>]+",
    re.IGNORECASE,
)


def mask_urls(text: str) -> str:
    """Return a text with the secrets of the URLs in it masked."""
    if "?" not in text and not ("@" in text and (":" in text or "&" in text)):
        return text  # as nearly every text is, the ids of clips included
    text = _USER.sub(rf"\g<scheme>{MASK}@", text)
    text = _QUERY.sub(rf"\g<url>{MASK}", text)
    text = _PARAMETER.sub(rf"\g<name>{MASK}", text)
    return _USER_ALONE.sub(f"{MASK}@", text)
