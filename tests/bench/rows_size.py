"""Rows of how large the box is, how soon it is there, and whether it grows."""

import os
import time
import urllib.request

import load
from box import Box, fresh
from measured import IS_FULL, Measured, Stated
from peers import Nginx, Recipe
from rows_drain import DOWNLOADS, drain_box, make_pictures
from rows_web import NO_WECHAT

# As many as WeChat lets a contributor choose at once.
IDS_A_SUBMISSION = 9
MANY = 1_000_000 if IS_FULL else 100_000
# The most that the settings allow.
A_SUBMISSION_MAX = 500
SIZES = (1_000, 10_000, 100_000, 1_000_000) if IS_FULL else (1_000, 10_000)


def memory(place):
    """Resident memory: idle, at work, with a crowd, with many ids waiting."""
    nginx = Nginx(place)
    with Box(fresh(os.path.join(place, "box")), nginx.url) as box:
        box.wait_for_ticket()
        recipe = Recipe(os.path.join(place, "recipe"), box.page()[0], nginx.url)
        for _ in range(20):
            urllib.request.urlopen(recipe.url + "/uploadImgDemo").read()
        of_recipe = f"the recipe's three processes, idle: {recipe.memory_mib():.0f} MiB"
        recipe.stop()
        time.sleep(2)
        yield mib("resident memory, idle", box.memory_mib(), 8, of_recipe)
        box.forget_peak()
        load.pages(box.url, 128, 3)
        load.submissions(box.url, 128, 3, "crowd", box.page()[1])
        yield mib("the same, at most, 128 clients with pages and submissions", box.memory_mib("VmHWM"), 16)
    ids = make_pictures(place, 24, 20 << 20, "large")
    _, box = drain_box(place, nginx.url, ids)
    yield mib("the same, at most, draining 8 pictures of 20 MB at a time", box.memory_mib("VmHWM"), 16)
    box.stop()
    nginx.stop()


def mib(what, value, limit, note=""):
    return Measured(what, "limit", [value], limit, unit="MiB", at_least=False, note=note)


def waiting(place):
    """Memory and start with very many ids waiting; in the short run 100,000 of them."""
    folder = fresh(os.path.join(place, "box"))
    with Box(folder, NO_WECHAT) as box:
        submit_many(box, MANY, "w")
        peak, now = box.memory_mib("VmHWM"), box.memory_mib()
        yield mib(f"resident memory, {MANY:,} ids waiting", now, 48, f"at most {peak:.0f} MiB while they came")
    starts = []
    for _ in range(3):
        with Box(folder, NO_WECHAT) as box:
            starts.append(box.seconds_to_ready)
            resident = box.memory_mib()
    yield seconds(f"start to ready, {MANY:,} ids waiting, after an orderly end", starts, 1)
    yield mib("resident memory after that start", resident, 48)
    box = Box(folder, NO_WECHAT)
    box.kill()
    with Box(folder, NO_WECHAT) as box:
        yield seconds("the same, after kill -9", [box.seconds_to_ready], 1, f"{box.memory_mib():.0f} MiB")


def submit_many(box, ids, prefix):
    """The rate of submissions, nine ids each."""
    return load.submissions_until(ids // IDS_A_SUBMISSION, box.url, 16, prefix, box.page()[1], IDS_A_SUBMISSION)


def seconds(what, values, limit, note=""):
    if limit < 1:
        values, limit, unit = [value * 1000 for value in values], limit * 1000, "ms"
    else:
        unit = "s"
    return Measured(what, "limit", values, limit, unit=unit, at_least=False, note=note)


def start(place):
    """Start to ready, empty, and with very many pictures in the album."""
    empty = []
    for turn in range(5):
        with Box(fresh(os.path.join(place, "box")), NO_WECHAT) as box:
            empty.append(box.seconds_to_ready)
    yield seconds("start to ready, empty", empty, 0.05)
    folder = fresh(os.path.join(place, "box"))
    make_album(os.path.join(folder, "pictures"), MANY)
    full = []
    for turn in range(5):
        with Box(folder, NO_WECHAT) as box:
            full.append(box.seconds_to_ready)
    yield seconds(f"start to ready, {MANY:,} pictures in the album, a tenth of them of today", full, 0.05)


def make_album(pictures, count):
    """An album of ten days, the last one today. Its pictures are many names of few files."""
    row = "{file},{id},{hash},4096,image/jpeg,1,1,{at},{at},RECEIPT123,,,,,,\n"
    header = (
        "file,media_id,sha256,bytes,content_type,width,height,submitted_at,saved_at,receipt,team,contributor,"
        "note,latitude,longitude,clock\n"
    )
    for back in range(10):
        day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - back * 86400))
        folder = os.path.join(pictures, day)
        os.makedirs(folder)
        with open(os.path.join(folder, "manifest.csv"), "w") as manifest, open(
            os.path.join(folder, "SHA256SUMS"), "w"
        ) as sums:
            manifest.write(header)
            for number in range(count // 10):
                media_id = f"a{back}-{number}-".ljust(64, "x")
                name = day.replace("-", "") + f"T000000Z_{media_id}.jpg"
                path, first = os.path.join(folder, name), number % 50_000 == 0
                if first:
                    source = path
                    with open(path, "wb") as file:
                        file.write(os.urandom(4096))
                else:
                    os.link(source, path)
                manifest.write(row.format(file=name, id=media_id, hash="0" * 64, at=f"{day}T00:00:00Z"))
                sums.write("0" * 64 + "  " + name + "\n")


def growth(place):
    """Rates, memory and database as the box fills; each beside the first thousand."""
    yield from growth_of_submissions(place)
    yield from growth_of_drain(place)


def growth_of_submissions(place):
    with Box(fresh(os.path.join(place, "box")), NO_WECHAT) as box:
        rates, waiting = {}, 0
        for size in SIZES:
            # The last part of the way up to `size`: a thousand submissions at least.
            part = min(size - waiting, max(9_000, size // 10))
            if size - waiting - part > 0:
                submit_many(box, size - waiting - part, f"f{size}")
            rates[size] = submit_many(box, part, f"g{size}")
            waiting = size
        told = ", ".join(f"{size:,}: {rate:,.0f}/s" for size, rate in rates.items())
        yield within("submission rate", [rates[size] / rates[SIZES[0]] for size in SIZES[1:]], told)
        data = os.path.join(place, "box", "data")
        size = sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(data) for name in names)
        yield Stated(f"journal and queue on the disk, {waiting:,} ids waiting", f"{size / waiting:.0f} bytes an id")


def growth_of_drain(place):
    """Small pictures, so that what is counted is the box and not the copying."""
    nginx = Nginx(place)
    rates, memory = {}, {}
    sizes = SIZES[:3]
    settings = {"limits_ids_per_submission": A_SUBMISSION_MAX, "drain_downloads": DOWNLOADS}
    with Box(fresh(os.path.join(place, "box")), nginx.url, **settings) as box:
        box.wait_for_ticket()
        kept = 0
        for size in sizes:
            ids = make_pictures(place, size - kept, 2048, f"d{size}-")
            first, last = ids[:-1000], ids[-1000:]
            submit_all(box, first)
            if first:
                box.wait_for_pictures(size - 1000, 3600)
            begun = time.monotonic()
            submit_all(box, last)
            box.wait_for_pictures(size)
            rates[size] = len(last) / (time.monotonic() - begun)
            memory[size] = box.memory_mib()
            kept = size
    nginx.stop()
    told = ", ".join(f"{size:,}: {rates[size]:,.0f}/s and {memory[size]:.1f} MiB" for size in sizes)
    yield within("drain rate, pictures of 2 KiB", [rates[size] / rates[sizes[0]] for size in sizes[1:]], told)
    growth = [memory[size] / memory[sizes[0]] for size in sizes[1:]]
    yield Measured("growth: memory while draining", "at 1,000", [max(growth)], 1.2, at_least=False)


def submit_all(box, ids):
    for at in range(0, len(ids), A_SUBMISSION_MAX):
        box.submit(ids[at : at + A_SUBMISSION_MAX])


def within(what, values, note):
    return Measured(f"growth: {what} at {SIZES[-1]:,}", "at 1,000", [min(values)], 0.8, note=note)
