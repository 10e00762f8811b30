"""Judges: endpoints that misbehave, addresses that are none, and settings that no judge can be asked with."""

from __future__ import annotations

import json
from pathlib import Path

from tests.robustness.hostile.table import Hostile
from tests.robustness.hostile_judge import BEHAVIOURS, FULL_PORT, PORT, serve, url_of

CONFIG = """\
benchmark:
  _target_: vlmprune.benchmarks.judged.MmVet
  path: lmms-lab-encoder/MMVet
  fallback: null
  config: null
  split: test
  revision: null
  streaming: null
  columns: {id: question_id, image: image, question: question, answer: answer, capability: capability}
  max_new_tokens: 16
  prefix: ""
  suffix: ""
"""


def answered(folder: Path) -> None:
    """A run directory with one answer that is to be judged, and the server."""
    row = {"id": "q0", "image_id": "i0", "question": "Which?", "answer": "1", "prediction": "1", "category": "rec"}
    (folder / "run").mkdir()
    (folder / "run/config.yaml").write_text(CONFIG)
    (folder / "run/predictions.jsonl").write_text(json.dumps(row | {"extra": {"capability": "rec"}}) + "\n")
    serve()


def judged(name: str, *settings: str, named: tuple[str, ...] = ("judge",), **more) -> Hostile:
    """`vlmprune score run` with a judge; one attempt of half a second and one more."""
    given = {setting.partition("=")[0] for setting in settings}
    common = ("judge.model=m", "judge.timeout=0.5", "judge.retries=1", "judge.wait=0.01")
    arguments = ("score", "run", *settings, *(each for each in common if each.partition("=")[0] not in given))
    return Hostile("judges", name, arguments, named, answered, **more)


def portless(url: str) -> str:
    """The address without its port, which is drawn: names of tests are the same in every process."""
    return url.replace(str(FULL_PORT), "FULL").replace(str(PORT), "PORT")


HERE = f"http://127.0.0.1:{PORT}/v1"
ADDRESSES = (
    "file:///etc/passwd",
    "ftp://host/v1",
    "127.0.0.1/v1",
    "//127.0.0.1/v1",
    "unix:///run/judge.sock",
    "http+unix://%2Frun%2Fjudge.sock/v1",
    "data:application/json,1",
    "javascript:1",
    "http://",
    "http:///v1",
    "http://:80/v1",
    "http://127.0.0.1:0/v1",
    "http://127.0.0.1:99999/v1",
    "http://127.0.0.1:-1/v1",
    "http://127.0.0.1:port/v1",
    "http://127.0.0.1:8O/v1",
    "http://[::1/v1",
    "http://[nonsense]/v1",
    "http://[::1]:9/v1",
    "http://a b/v1",
    "http://a\tb/v1",
    "http://a\r\nX-Header: b/v1",
    "http://host\0/v1",
    "http://..../v1",
    "http://%00/v1",
    "http://xn--a/v1",
    "http://999.999.999.999/v1",
    f"http://{'a' * 300}.example/v1",
    f"http://127.0.0.1:9/{'a' * 100_000}",
    "http://user:password@127.0.0.1/v1",
    "http://127.0.0.1:9/v1?key=secret",
    "http://127.0.0.1:9/v1#fragment",
    f"https://127.0.0.1:{PORT}/v1",
    f"http://127.0.0.1:{FULL_PORT}/v1",
    "http://127.0.0.1:9/v1",
    "",
    "null",
    "5",
    "[a]",
)
NUMBERS = {
    "wait": ("1e300", "-1", "nan", "inf", "1e999", "soon", "null", "[1]", "9" * 400),
    "timeout": ("1e300", "0", "-1", "nan", "inf", "true"),
    "retries": ("1000000000000", "-1", "1.5", "nan"),
    "concurrency": ("1000000000", "0", "-1", "1.5"),
    "temperature": ("1e300", "-1", "nan", "warm"),
    "deadline": ("1e300", "0", "nan"),
    "model": ("5", "[a]", "{a: 1}"),
}
PROXIES = {
    "http_proxy": ("nonsense", "ftp://127.0.0.1:9", "http://127.0.0.1:99999", "http://[", "socks5://127.0.0.1:9"),
    "all_proxy": ("socks4://127.0.0.1:9", "\x01"),
    "SSL_CERT_FILE": ("/nowhere",),
}
CASES = [
    *(judged(f"a judge that {name}", f"judge.base_url={url_of(name)}", named=("m",)) for name in BEHAVIOURS),
    *(judged(f"base_url={portless(url)[:40]!r}", f"judge.base_url={url}", named=("m",)) for url in ADDRESSES),
    *(
        judged(f"{name}={value[:20]}", f"judge.base_url={HERE}", f"judge.{name}={value}", named=(name,))
        for name, values in NUMBERS.items()
        for value in values
    ),
    *(
        judged(
            f"{name}={value!r}",
            f"judge.base_url=http{'s' if name == 'SSL_CERT_FILE' else ''}://judge.example/v1",
            named=("m",),
            environment={name: value},
        )
        for name, values in PROXIES.items()
        for value in values
    ),
]
