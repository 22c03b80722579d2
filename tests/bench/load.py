"""The load: wrk, the same for box and peers, and the bare disk."""

import json
import os
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def wrk(url, script, clients, seconds, *arguments):
    """Runs wrk: `{seconds, taken, refused, p50_ms, p99_ms, rate}`."""
    command = ["wrk", "-t2", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s"]
    command += ["-s", os.path.join(HERE, script), url, "--", *map(str, arguments)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    line = next(line for line in said.splitlines() if line.startswith("RESULT "))
    result = json.loads(line[len("RESULT ") :])
    result["rate"] = result["taken"] / result["seconds"]
    if result["refused"] or not result["taken"]:
        raise RuntimeError(f"not everything was answered well at {url}: {said}")
    return result


def pages(url, clients, seconds):
    return wrk(url + "/uploadImgDemo", "page.lua", clients, seconds)


def submissions(url, clients, seconds, prefix, cookie="", ids=1):
    """Submissions with ids that begin with `prefix`, which must not have been used before."""
    return wrk(url + "/uploadImgData", "submit.lua", clients, seconds, prefix, ids, cookie)


def submissions_until(count, url, clients, prefix, cookie="", ids=1):
    """So many of them or a few more, in stretches: wrk itself ends only when its time is over. Submissions a second."""
    taken = spent = 0
    while taken < count:
        told = submissions(url, clients, 2, f"{prefix}-{taken}", cookie, ids)
        taken, spent = taken + told["taken"], spent + told["seconds"]
    return taken / spent


def syncs_a_second(folder, seconds=1.0):
    """What the disk can do: one writer that appends a short line and waits for it, over and over."""
    path = os.path.join(folder, "syncs")
    count = 0
    with open(path, "wb", buffering=0) as file:
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            file.write(b"x" * 200)
            os.fdatasync(file.fileno())
            count += 1
        spent = time.monotonic() - begun
    os.remove(path)
    return count / spent
