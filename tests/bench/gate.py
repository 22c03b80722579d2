"""Counts instructions and compares them with what was counted when the bounds were set. See tests/bench/gate.

The box is warm before anything counts: what is set up once belongs to no page. And of several portions the cheapest
counts: threads that wait for each other spin, for as long as the scheduler pleases."""

import http.client
import json
import os
import re
import subprocess
import sys

from box import Box, fresh
from peers import Nginx
from rows_drain import DOWNLOADS, make_pictures
from rows_web import NO_WECHAT

PLACE = os.path.abspath("target/bench/gate")
PICTURE_BYTES = 20 * 1024
# A compiler's new version, another library or a small new duty is no reason to fail. One run and the next differ by a
# hundredth.
GENEROSITY = 1.5
# Thousands of instructions, x86-64, when they were last lowered. Who makes it better may lower them. Of a picture two thirds
# are its hash: valgrind knows nothing of the processor's own instructions for that.
COUNTED = {"page": 107, "submission": 251, "commit": 1682}
WARM, PORTION, PORTIONS = 50, 150, 3


class Counted(Box):
    """A box of which every instruction is counted, in portions."""

    def __init__(self, api_url):
        folder = fresh(os.path.join(PLACE, "box"))
        self.counts = os.path.join(folder, "counts")
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={self.counts}"]
        settings = {"drain_downloads": DOWNLOADS, "limits_ids_per_submission": PORTION}
        super().__init__(folder, api_url, valgrind, **settings)
        self.portions = 0

    def portion(self):
        """Instructions since the last portion."""
        subprocess.run(["vgdb", f"--pid={self.process.pid}", "dump"], check=True, capture_output=True)
        self.portions += 1
        with open(f"{self.counts}.{self.portions}") as file:
            return int(re.search(r"^totals: (\d+)$", file.read(), re.M).group(1))


def thousands(api_url, work):
    """Of instructions, for each one of what `work(box, first, count)` does."""
    with Counted(api_url) as box:
        if api_url != NO_WECHAT:
            box.wait_for_ticket()
        work(box, 0, WARM)
        box.portion()
        portions = []
        for number in range(PORTIONS):
            work(box, WARM + number * PORTION, PORTION)
            portions.append(box.portion())
    return min(portions) / PORTION / 1000


def pages(box, first, count):
    for answer in asked(box, range(first, first + count), lambda _: ("GET", "/uploadImgDemo", None, {})):
        assert b'"signature"' in answer


def submissions(box, first, count):
    """Of ids that nobody fetches, because WeChat cannot be reached."""
    headers = {"Content-Type": "application/json", "Cookie": box.page()[1]}
    ask = lambda number: ("POST", "/uploadImgData", json.dumps({"imgIds": [f"gate-{number}".ljust(64, "x")]}), headers)
    for answer in asked(box, range(first, first + count), ask):
        assert json.loads(answer)["rc"] == 0, answer


def asked(box, numbers, ask):
    """The answers to a request for each number, by one connection."""
    connection = http.client.HTTPConnection(box.url.removeprefix("http://"), timeout=120)
    for number in numbers:
        method, path, body, headers = ask(number)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        assert answer.status == 200, answer.status
        yield answer.read()


def main():
    nginx = Nginx(fresh(PLACE))
    ids = make_pictures(PLACE, WARM + PORTIONS * PORTION, PICTURE_BYTES)

    def commits(box, first, count):
        box.submit(ids[first : first + count])
        box.wait_for_pictures(first + count)

    failed = False
    paths = (("page", pages, nginx.url), ("submission", submissions, NO_WECHAT), ("commit", commits, nginx.url))
    for name, work, api_url in paths:
        counted = thousands(api_url, work)
        limit = COUNTED[name] * GENEROSITY
        verdict = "fine" if counted <= limit else "TOO MANY"
        print(f"{name}: {counted:,.0f} thousand instructions, at most {limit:,.0f}: {verdict}", flush=True)
        failed |= counted > limit
    nginx.stop()
    sys.exit(failed)


if __name__ == "__main__":
    main()
