"""Scrapes as Prometheus does, from a process of its own: ``… URL SECONDS TOKEN``.

Says a word after the first one, and at the end of its input how many more it made.
"""

from __future__ import annotations

import select
import sys
import time
from urllib.request import Request, urlopen


def main(url: str, every: float, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip"}
    made, due = 0, time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        due += every
        with urlopen(Request(url, headers=headers), timeout=60) as answer:
            packed = answer.headers["Content-Encoding"] == "gzip"
            answer.read()
        if packed and not made:  # what stood still first refreshes, and has nothing to tell so far
            print("scraping", flush=True)
        assert packed or not made
        made += packed
    print(made - 1)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
