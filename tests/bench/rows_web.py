"""Rows of the public side: the page and durable submissions."""

import os
import re

import load
from box import Box, fresh
from measured import Measured, Stated, median, ratios, rounds
from peers import Nginx, Recipe, free_port

SECONDS = 3

# Nobody listens there, so the collector pauses and only the intake is measured.
NO_WECHAT = "http://127.0.0.77:9"


def page(place):
    """The page, signed anew for every client."""
    nginx = Nginx(place)
    with Box(fresh(os.path.join(place, "box")), nginx.url) as box:
        box.wait_for_ticket()
        html = box.page()[0]
        with open(os.path.join(place, "page.html"), "wb") as file:
            file.write(html)
        recipe = Recipe(os.path.join(place, "recipe"), as_template(html), nginx.url)
        for server in (box, nginx, recipe):
            load.pages(server.url, 16, 1)
        ours, recipes, files = rounds(
            lambda _: load.pages(box.url, 16, SECONDS),
            lambda _: load.pages(recipe.url, 16, SECONDS),
            lambda _: load.pages(nginx.url, 16, SECONDS),
        )
        recipe.stop()
    nginx.stop()
    rate = lambda side: [one["rate"] for one in side]
    what = f"page with signature, 16 keep-alive clients ({len(html):,} bytes)"
    told = f"{median(rate(ours)):,.0f}/s, p99 {median(one['p99_ms'] for one in ours):.1f} ms"
    yield Measured(
        what,
        "Flask recipe, gunicorn, 2 workers",
        ratios(rate(ours), rate(recipes)),
        20,
        note=f"{told}; the recipe {median(rate(recipes)):,.0f}/s",
    )
    yield Measured(
        what,
        "nginx, the same bytes as a file",
        ratios(rate(ours), rate(files)),
        0.5,
        note=f"nginx {median(rate(files)):,.0f}/s",
    )


def as_template(html):
    """The page as the recipe's template: its signature is filled in by Jinja."""
    element = rb'(<script type="application/json" id="jssdk-config">).*?(</script>)'
    return re.sub(element, rb"\1{{ config|safe }}\2", html, flags=re.DOTALL)


def submit(place):
    """Durable submissions of one id each, with the page's cookie."""
    with Box(fresh(os.path.join(place, "box")), NO_WECHAT) as box:
        recipe = Recipe(os.path.join(place, "recipe"), b"a page", "")
        cookie = box.page()[1]
        for clients, target in ((16, 5), (128, 10)):
            submit_to = lambda server, name, seconds: load.submissions(
                server.url, clients, seconds, f"{name}{clients}", cookie
            )
            submit_to(box, "warm", 1)
            submit_to(recipe, "warm", 1)
            ours, recipes, syncs = rounds(
                lambda turn: submit_to(box, f"a{turn}", SECONDS)["rate"],
                lambda turn: submit_to(recipe, f"a{turn}", SECONDS)["rate"],
                lambda _: load.syncs_a_second(place),
            )
            yield Measured(
                f"durable submission, {clients} clients",
                "Flask + SQLite WAL, synchronous=FULL",
                ratios(ours, recipes),
                target,
                note=f"{median(ours):,.0f}/s; the recipe {median(recipes):,.0f}/s",
            )
            yield Stated(
                f"the same, beside one writer that only appends and syncs ({median(syncs):,.0f} syncs/s)",
                f"{median(ratios(ours, syncs)):.1f}×",
            )
        recipe.stop()


def submit_syncs(place):
    """Acknowledgements a sync, counted by strace on a box of its own."""
    shares = []
    for turn in range(3):
        trace = os.path.join(place, "trace")
        strace = ["strace", "-D", "-f", "-y", "--seccomp-bpf", "-e", "trace=fsync,fdatasync,syncfs", "-o", trace]
        with Box(fresh(os.path.join(place, "box")), NO_WECHAT, prefix=strace) as box:
            cookie = box.page()[1]
            before = syncs_in(trace, "/journal/")
            taken = load.submissions(box.url, 128, SECONDS, f"s{turn}", cookie)["taken"]
            shares.append(taken / (syncs_in(trace, "/journal/") - before))
    yield Measured(
        "acknowledgements per fsync, 128 clients", "strace", shares, 20, unit="", note="this machine's disk"
    )


def syncs_in(trace, part):
    with open(trace) as file:
        return sum("sync" in line and "resumed" not in line and part in line for line in file)
