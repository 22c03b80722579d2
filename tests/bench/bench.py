"""Runs the rows, prints the table, writes it as JSON. See tests/bench/run."""

import datetime
import json
import os
import subprocess
import sys
import time

import box
import measured
import rows_drain
import rows_size
import rows_web

ROWS = {
    "page": rows_web.page,
    "submit": rows_web.submit,
    "submit-syncs": rows_web.submit_syncs,
    "drain": rows_drain.drain,
    "drain-costs": rows_drain.drain_costs,
    "slow-link": rows_drain.slow_link,
    "export": rows_drain.export,
    "memory": rows_size.memory,
    "waiting": rows_size.waiting,
    "start": rows_size.start,
    "growth": rows_size.growth,
}
PLACE = os.path.abspath("target/bench/place")
RESULT = os.path.abspath("target/bench/result.json")
HEAD = "| what | beside | to reach | reached: median (min–max) | met | note |\n|---|---|---|---|---|---|"


def main(arguments):
    if "--list" in arguments:
        return print("\n".join(f"{name}: {row.__doc__.splitlines()[0]}" for name, row in ROWS.items()))
    wanted = [name for name in ROWS if not arguments or any(name.startswith(word) for word in arguments)]
    lines, told = [], []
    for name in wanted:
        begun = time.monotonic()
        for line in ROWS[name](box.fresh(PLACE)):
            lines.append(line)
            told.append({"row": name, **line.as_json()})
            print(line.line(), file=sys.stderr, flush=True)
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
        write(told, wanted)
    print("\n".join([HEAD, *(line.line() for line in lines)]))


def write(lines, rows):
    told = {
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["tests/bench/run", *rows]) if len(rows) < len(ROWS) else "tests/bench/run",
        "rounds": measured.ROUNDS,
        "is_full": measured.IS_FULL,
        "lines": lines,
    }
    with open(RESULT, "w") as file:
        json.dump(told, file, ensure_ascii=False, indent=1)


def machine():
    with open("/proc/cpuinfo") as file:
        models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    release = os.uname().release
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout
    return f"{os.cpu_count()} × {models[0] if models else os.uname().machine}, Linux {release}, {commit.strip()}"


if __name__ == "__main__":
    main(sys.argv[1:])
