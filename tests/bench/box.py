"""A box under measurement: the real release binary with settings of its own, and what the kernel says of it."""

import atexit
import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request

BINARY = os.environ["TUBOX"]
# As the service runs (CPUSchedulingPolicy=batch). The peers gain nothing by it.
AS_THE_UNIT = ["chrt", "--batch", "0"]
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def started(command, **options):
    """A process that does not outlive this one, whatever it ends with."""
    process = subprocess.Popen(command, **options)
    atexit.register(end, process)
    return process


def end(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


class Box:
    """`tubox serve` in `folder` (data and pictures below it); ready when the constructor returns."""

    def __init__(self, folder, api_url, prefix=(), **settings):
        self.folder = folder
        self.pictures = os.path.join(folder, "pictures")
        os.makedirs(folder, exist_ok=True)
        environment = {
            "LISTEN": "127.0.0.1:0",
            "PUBLIC_URL": "https://pics.example.org",
            "DATA_DIR": os.path.join(folder, "data"),
            "PICTURES_DIR": self.pictures,
            "WECHAT_APP_ID": "wx0123456789abcdef",
            "WECHAT_APP_SECRET": "5ec2e70f5ec2e70f5ec2e70f5ec2e70f",
            "WECHAT_API_URLS": api_url,
            "LIMITS_RATE": "0",
            "LIMITS_QUEUE": "2000000",
            "LIMITS_MIN_FREE_BYTES": "0",
            **{key.upper(): str(value) for key, value in settings.items()},
        }
        environment = {f"TUBOX_{key}": value for key, value in environment.items()}
        self.log_path = os.path.join(folder, "log")
        begun = time.monotonic()
        self.process = started(
            [*AS_THE_UNIT, *prefix, BINARY, "serve", "--config", "/dev/null"],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=open(self.log_path, "w"),
        )
        self.url = self._wait_for_address()
        self.get("/readyz")
        self.seconds_to_ready = time.monotonic() - begun

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """In order, as systemd does it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def _wait_for_address(self):
        while self.process.poll() is None:
            found = re.search(r"listening on (\S+)", self.log())
            if found:
                return f"http://{found.group(1)}"
            time.sleep(0.001)
        raise RuntimeError("the box did not start:\n" + self.log())

    def log(self):
        with open(self.log_path) as file:
            return file.read()

    def get(self, path, headers=None):
        """The body of an answer; an error for another status than 200."""
        request = urllib.request.Request(self.url + path, headers=headers or {})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def page(self):
        """The page's bytes and the cookie that came with it."""
        with urllib.request.urlopen(self.url + "/uploadImgDemo", timeout=60) as answer:
            return answer.read(), answer.headers["Set-Cookie"].split(";")[0]

    def wait_for_ticket(self):
        """Until pages are signed."""
        for _ in range(1000):
            if b'"signature"' in self.page()[0]:
                return
            time.sleep(0.02)
        raise RuntimeError("the box got no ticket:\n" + self.log()[-2000:])

    def submit(self, ids):
        """Hands ids in as the page does; the receipt."""
        cookie = self.page()[1]
        body = json.dumps({"imgIds": ids}).encode()
        headers = {"Content-Type": "application/json", "Cookie": cookie}
        request = urllib.request.Request(self.url + "/uploadImgData", data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.load(answer)
        if told["rc"] != 0:
            raise RuntimeError(f"refused: {told}")
        return told["receipt"]

    def wait_for_pictures(self, count, seconds=600):
        """Until `count` pictures stand in the manifests, which is the last thing that a commit writes."""
        deadline = time.monotonic() + seconds
        seen = {}
        while time.monotonic() < deadline:
            for day in os.listdir(self.pictures) if os.path.isdir(self.pictures) else ():
                manifest = os.path.join(self.pictures, day, "manifest.csv")
                size = os.path.getsize(manifest) if os.path.exists(manifest) else 0
                if size and seen.get(day, (0, 0))[0] != size:
                    with open(manifest, "rb") as file:
                        seen[day] = (size, file.read().count(b"\n") - 1)
            if sum(rows for _, rows in seen.values()) >= count:
                return
            time.sleep(0.003)
        raise RuntimeError(f"the pictures do not come: {seen}\n" + self.log()[-2000:])

    def status(self):
        """The operator's status."""
        with open(os.path.join(self.folder, "data", "admin_token")) as file:
            token = file.read().strip()
        return json.loads(self.get("/admin/status", {"Authorization": f"Bearer {token}"}))

    def memory_mib(self, field="VmRSS"):
        """Resident memory now (`VmRSS`) or the most it ever was (`VmHWM`)."""
        with open(f"/proc/{self.process.pid}/status") as file:
            line = next(line for line in file if line.startswith(field + ":"))
        return int(line.split()[1]) / 1024

    def forget_peak(self):
        """From now on VmHWM counts anew."""
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as file:
            file.write("5")

    def cpu_seconds(self):
        return cpu_seconds(self.process.pid)

    def bytes_to_disk(self):
        with open(f"/proc/{self.process.pid}/io") as file:
            return int(next(line for line in file if line.startswith("write_bytes")).split()[1])


def cpu_seconds(pid):
    """User and system time of all threads so far."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def fresh(path):
    """An empty folder."""
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path
