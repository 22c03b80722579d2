"""Rows of the way home: draining, what it costs, and the copy that leaves the house."""

import os
import subprocess
import time

import peers
from box import BINARY, Box, fresh
from measured import IS_FULL, Measured, Stated, median, ratios, rounds
from peers import Nginx
from rows_web import syncs_in
from slow_link import SlowLink

PICTURES = 500
PICTURE_BYTES = 200 * 1024
# As many as the peers take at a time.
DOWNLOADS = 8


def make_pictures(place, count, size, name="p"):
    """Pictures for nginx, of random bytes that look like JPEGs; their ids, as long as WeChat's."""
    ids = []
    folder = os.path.join(place, "pictures")
    os.makedirs(folder, exist_ok=True)
    for number in range(count):
        media_id = f"{name}{number}-".ljust(64, "x")
        with open(os.path.join(folder, media_id + ".jpg"), "wb") as file:
            head = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xda\x00\x02"
            noise = os.urandom(size - len(head) - 2).replace(b"\xff", b"\xfe")
            file.write(head + noise + b"\xff\xd9")
        ids.append(media_id)
    return ids


def drain_box(place, api_url, ids, prefix=(), **settings):
    """Seconds from handing the ids in until the last row of the manifest is on the disk; and the box, which is left
    running."""
    folder = fresh(os.path.join(place, "box"))
    box = Box(folder, api_url, prefix, drain_downloads=DOWNLOADS, limits_ids_per_submission=len(ids), **settings)
    box.wait_for_ticket()
    box.cpu_before = box.cpu_seconds()
    begun = time.monotonic()
    box.submit(ids)
    box.wait_for_pictures(len(ids))
    return time.monotonic() - begun, box


def drained(place, api_url, ids):
    """Seconds and CPU seconds of the box, everything checked afterwards."""
    seconds, box = drain_box(place, api_url, ids)
    cpu = box.cpu_seconds() - box.cpu_before
    box.stop()
    verify = subprocess.run([BINARY, "verify", box.pictures], capture_output=True, text=True)
    if verify.returncode != 0:
        raise RuntimeError(verify.stdout + verify.stderr)
    return seconds, cpu


def drain(place):
    """500 pictures of 200 KiB from nginx, durable and hashed."""
    nginx = Nginx(place)
    ids = make_pictures(place, PICTURES, PICTURE_BYTES)
    there = os.path.join(place, "there")
    ours, curls, one_by_one = rounds(
        lambda _: drained(place, nginx.url, ids),
        lambda _: peers.curl(nginx.url, ids, there),
        lambda _: peers.sequential(nginx.url, ids, there),
    )
    nginx.stop()
    seconds = lambda side: [one[0] for one in side]
    what = f"drain of {PICTURES} pictures of 200 KiB from nginx, {DOWNLOADS} at a time, durable and hashed"
    yield Measured(
        what,
        "curl --parallel-max 8, then sync (no queue, no check)",
        ratios(seconds(curls), seconds(ours)),
        0.6,
        note=f"{median(seconds(ours)):.2f} s; curl {median(seconds(curls)):.2f} s",
    )
    yield Measured(
        what,
        "the recipe's sequential downloader, then sync",
        ratios(seconds(one_by_one), seconds(ours)),
        3,
        note=f"the recipe {median(seconds(one_by_one)):.2f} s",
    )
    cpu = lambda side: median(one[1] for one in side) * 1000 / PICTURES
    text = f"{cpu(ours):.2f} s; curl {cpu(curls):.2f} s; the recipe {cpu(one_by_one):.2f} s"
    yield Stated("CPU seconds per 1,000 pictures of 200 KiB", text)


def drain_costs(place):
    """What a picture costs the disk, counted by strace and the kernel."""
    nginx = Nginx(place)
    ids = make_pictures(place, PICTURES, PICTURE_BYTES)
    trace = os.path.join(place, "trace")
    strace = ["strace", "-D", "-f", "-y", "--seccomp-bpf", "-e", "trace=fsync,fdatasync,syncfs", "-o", trace]
    syncs, share = [], []
    for _ in range(3):
        _, box = drain_box(place, nginx.url, ids, prefix=strace)
        syncs.append(syncs_in(trace, "/pictures") / PICTURES)
        share.append(box.bytes_to_disk() / (PICTURES * PICTURE_BYTES))
        box.stop()
    nginx.stop()
    yield Measured("fsyncs a picture, busy", "strace", syncs, 1, unit="", at_least=False)
    text = f"{median(share):.3f} for each of its bytes, journal, queue and manifest included"
    yield Stated("bytes written a picture", text)


def slow_link(place):
    """Over 200 ms round trip and 20 Mbit/s, played by a relay."""
    count, bits = (1000 if IS_FULL else 300), 20_000_000
    nginx = Nginx(place)
    ids = make_pictures(place, count, PICTURE_BYTES)
    there = os.path.join(place, "there")

    def through_link(drain_by):
        link = SlowLink(nginx.port, 0.2, bits)
        seconds = drain_by(link.url)[0]
        link.stop()
        return seconds

    ours, theirs = rounds(
        lambda _: through_link(lambda url: drained(place, url, ids)),
        lambda _: through_link(lambda url: peers.aria2c(url, ids, there)),
        count=2,
    )
    nginx.stop()
    own = count * PICTURE_BYTES * 8 / bits
    what = f"drain of {count} pictures of 200 KiB over 200 ms round trip and 20 Mbit/s, {DOWNLOADS} at a time"
    yield Measured(
        what,
        "the link's own rate",
        [own / seconds for seconds in ours],
        0.95,
        note=f"{median(ours):.1f} s; the link alone {own:.1f} s",
    )
    yield Measured(what, "aria2c -j8", ratios(theirs, ours), 1, note=f"aria2c {median(theirs):.1f} s")


def export(place):
    """The verified copy beside rsync and sha256sum."""
    nginx = Nginx(place)
    ids = make_pictures(place, PICTURES, PICTURE_BYTES)
    _, box = drain_box(place, nginx.url, ids)
    box.stop()
    nginx.stop()
    source, there = box.pictures, os.path.join(place, "copy")

    def by_box(_):
        fresh(there)
        return peers.timed([BINARY, "export", "--from", source, there], there)[0]

    def by_rsync(_):
        fresh(there)
        check = 'for sums in "$1"/*/SHA256SUMS; do (cd "${sums%/*}" && sha256sum -c --quiet SHA256SUMS); done'
        begun = time.monotonic()
        peers.timed(["rsync", "-a", source + "/", there], there)
        subprocess.run(["sh", "-ec", check, "sh", there], check=True)
        return time.monotonic() - begun

    ours, theirs = rounds(by_box, by_rsync, count=5)
    yield Measured(
        f"export with verification, {PICTURES} pictures of 200 KiB",
        "rsync -a, sync, sha256sum -c",
        ratios(theirs, ours),
        1.2,
        note=f"{median(ours):.2f} s; rsync and sha256sum {median(theirs):.2f} s",
    )
