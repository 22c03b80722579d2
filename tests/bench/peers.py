"""Those beside whom the box is measured: the Flask recipe, nginx, and downloaders."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import box

HERE = os.path.dirname(os.path.abspath(__file__))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(url):
    for _ in range(500):
        try:
            return urllib.request.urlopen(url, timeout=10).read()
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"nobody answers at {url}")


class Nginx:
    """Plays WeChat's API from files, as fast as files can be served: token, ticket, and `media/get` for every
    picture in `folder`/pictures (`<media id>.jpg`). `folder`/page.html is served as the page."""

    CONFIG = """
        daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/error.log;
        events {{ worker_connections 2048; }}
        http {{
            access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; server_tokens off;
            client_body_temp_path {folder}/tmp1; proxy_temp_path {folder}/tmp2; fastcgi_temp_path {folder}/tmp3;
            uwsgi_temp_path {folder}/tmp4; scgi_temp_path {folder}/tmp5;
            server {{
                listen 127.0.0.1:{port} backlog=1024; root {folder};
                default_type application/json;
                location = /cgi-bin/stable_token {{ return 200 '{{"access_token":"TOKEN","expires_in":7200}}'; }}
                location = /cgi-bin/ticket/getticket {{
                    return 200 '{{"errcode":0,"errmsg":"ok","ticket":"TICKET","expires_in":7200}}';
                }}
                location = /cgi-bin/media/get {{
                    types {{ }} default_type image/jpeg;
                    add_header Content-Disposition 'attachment; filename="$arg_media_id.jpg"';
                    rewrite ^ /pictures/$arg_media_id.jpg break;
                }}
                location = /uploadImgDemo {{
                    types {{ }} default_type "text/html; charset=utf-8"; try_files /page.html =404;
                }}
            }}
        }}
    """

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(os.path.join(folder, "pictures"), exist_ok=True)
        self.port = free_port()
        config = os.path.join(folder, "nginx.conf")
        with open(config, "w") as file:
            # Its workers are nobody, who may not look into a private folder, unless they stay who started them.
            user = "user root;" if os.getuid() == 0 else ""
            file.write(user + self.CONFIG.format(folder=folder, port=self.port))
        self.process = box.started(["nginx", "-c", config], stderr=subprocess.DEVNULL)
        self.url = f"http://127.0.0.1:{self.port}"
        wait_for(self.url + "/cgi-bin/ticket/getticket")

    def stop(self):
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)


class Recipe:
    """The tutorial's Flask app under gunicorn with two workers."""

    def __init__(self, folder, page, api_url):
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "page.html"), "wb") as file:
            file.write(page)
        self.port = free_port()
        self.process = box.started(
            [
                *[sys.executable, "-m", "gunicorn"],
                *["--workers", "2", "--backlog", "2048", "--bind", f"127.0.0.1:{self.port}"],
                *["--chdir", os.path.join(HERE, "recipe"), "--log-level", "error", "app:app"],
            ],
            env={
                **os.environ,
                "RECIPE_TEMPLATES": folder,
                "RECIPE_DATABASE": os.path.join(folder, "recipe.sqlite"),
                "RECIPE_API": api_url,
            },
        )
        self.url = f"http://127.0.0.1:{self.port}"
        wait_for(self.url + "/uploadImgData")

    def memory_mib(self):
        """Of all its processes, shared pages counted once."""
        pids = [self.process.pid]
        with open(f"/proc/{pids[0]}/task/{pids[0]}/children") as file:
            pids += [int(pid) for pid in file.read().split()]
        total = 0
        for pid in pids:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += int(next(line for line in file if line.startswith("Pss:")).split()[1])
        return total / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def media_url(api_url, media_id):
    return f"{api_url}/cgi-bin/media/get?access_token=TOKEN&media_id={media_id}"


def timed(command, folder, sync=True):
    """Seconds that a command takes, its writes brought to the disk included, and its CPU seconds."""
    before = os.times()
    begun = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if sync:
        subprocess.run(["sync", "--file-system", folder], check=True)
    seconds = time.monotonic() - begun
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, cpu


def curl(api_url, ids, folder):
    """Eight at a time, then sync. It keeps no queue and checks nothing."""
    box.fresh(folder)
    config = os.path.join(folder, "..", "curl.config")
    with open(config, "w") as file:
        for media_id in ids:
            file.write(f'url = "{media_url(api_url, media_id)}"\noutput = "{folder}/{media_id}.jpg"\n')
    command = ["curl", "--silent", "--fail", "--parallel", "--parallel-max", "8", "--config", config]
    return checked(timed(command, folder), ids, folder)


def aria2c(api_url, ids, folder):
    """Eight at a time, then sync."""
    box.fresh(folder)
    listing = os.path.join(folder, "..", "aria2.list")
    with open(listing, "w") as file:
        for media_id in ids:
            file.write(f"{media_url(api_url, media_id)}\n  out={media_id}.jpg\n")
    options = ["--no-conf", "--quiet", "--max-connection-per-server=8", "--split=1", "--file-allocation=none"]
    command = ["aria2c", *options, "-j8", f"--dir={folder}", f"--input-file={listing}"]
    return checked(timed(command, folder), ids, folder)


def sequential(api_url, ids, folder):
    """The recipe's downloader, then sync."""
    box.fresh(folder)
    listing = os.path.join(folder, "..", "ids")
    with open(listing, "w") as file:
        file.write("\n".join(ids))
    command = [sys.executable, os.path.join(HERE, "recipe", "download.py"), api_url, listing, folder]
    return checked(timed(command, folder), ids, folder)


def checked(result, ids, folder):
    came = len([name for name in os.listdir(folder) if name.endswith(".jpg")])
    if came != len(ids):
        raise RuntimeError(f"{came} of {len(ids)} pictures came")
    return result
