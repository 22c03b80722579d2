"""Counts instructions and compares them with what was counted when the bounds were set. See tests/bench/gate.

Each figure is the difference between a run with many and a run with few, so that start and stop do not count."""

import http.client
import json
import os
import re
import sys
import time

from box import Box, fresh
from peers import Nginx
from rows_drain import DOWNLOADS, make_pictures
from rows_web import NO_WECHAT

PLACE = os.path.abspath("target/bench/gate")
PICTURE_BYTES = 20 * 1024
# A compiler's new version, another library or a small new duty is no reason to fail; and threads that wait for each other
# make a fifth more or less of it.
GENEROSITY = 2
# Thousands of instructions, x86-64, when they were last lowered. Who makes it better may lower them. Of a picture two thirds
# are its hash: valgrind knows nothing of the processor's own instructions for that.
COUNTED = {"page": 140, "submission": 320, "commit": 1900}
MANY, FEW = 500, 50
TRIES = 3


def instructions(api_url, work):
    """What a box costs from its start to its end, `work` in between."""
    folder = fresh(os.path.join(PLACE, "box"))
    valgrind = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    settings = {"drain_downloads": DOWNLOADS, "limits_ids_per_submission": MANY}
    with Box(folder, api_url, valgrind, **settings) as box:
        if api_url != NO_WECHAT:
            # Every look at a page that is not signed yet would count.
            time.sleep(2)
            box.wait_for_ticket()
        work(box)
    return int(re.search(r"I +refs: +([\d,]+)", box.log()).group(1).replace(",", ""))


def pages(box, count):
    for answer in asked(box, count, lambda _: ("GET", "/uploadImgDemo", None, {})):
        assert b'"signature"' in answer


def submissions(box, count):
    """Of ids that nobody fetches, because WeChat cannot be reached."""
    headers = {"Content-Type": "application/json", "Cookie": box.page()[1]}
    ask = lambda number: ("POST", "/uploadImgData", json.dumps({"imgIds": [f"gate-{number}".ljust(64, "x")]}), headers)
    for answer in asked(box, count, ask):
        assert json.loads(answer)["rc"] == 0, answer


def asked(box, count, ask):
    """The answers to `count` requests by one connection."""
    connection = http.client.HTTPConnection(box.url.removeprefix("http://"), timeout=120)
    for number in range(count):
        method, path, body, headers = ask(number)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        assert answer.status == 200, answer.status
        yield answer.read()


def main():
    nginx = Nginx(fresh(PLACE))
    ids = make_pictures(PLACE, MANY, PICTURE_BYTES)

    def commits(box, count):
        box.submit(ids[:count])
        box.wait_for_pictures(count)

    failed = False
    paths = (("page", pages, nginx.url), ("submission", submissions, NO_WECHAT), ("commit", commits, nginx.url))
    for name, work, api_url in paths:
        many, few = (
            # sled's threads spin while one of them sets something up, as long as the scheduler pleases: only ever more.
            min(instructions(api_url, lambda box: work(box, count)) for _ in range(TRIES))
            for count in (MANY, FEW)
        )
        thousands = (many - few) / (MANY - FEW) / 1000
        limit = COUNTED[name] * GENEROSITY
        verdict = "fine" if thousands <= limit else "TOO MANY"
        print(f"{name}: {thousands:,.0f} thousand instructions, at most {limit:,.0f}: {verdict}", flush=True)
        failed |= thousands > limit
    nginx.stop()
    sys.exit(failed)


if __name__ == "__main__":
    main()
