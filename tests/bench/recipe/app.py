"""The recipe that the box replaces, as a tutorial writes it: a Flask page that signs itself with a cached
jsapi_ticket, and a route that puts the ids into SQLite. Durable: WAL with synchronous=FULL, one commit a request.
"""

import hashlib
import json
import os
import random
import sqlite3
import string
import time
import urllib.request

from flask import Flask, jsonify, render_template, request

APP_ID = "wx0123456789abcdef"
API = os.environ.get("RECIPE_API", "")
PUBLIC_URL = "https://pics.example.org"

app = Flask(__name__, template_folder=os.environ["RECIPE_TEMPLATES"])
ticket = {"value": "", "until": 0.0}
database = sqlite3.connect(os.environ["RECIPE_DATABASE"], isolation_level=None, timeout=60)
database.execute("PRAGMA journal_mode=WAL")
database.execute("PRAGMA synchronous=FULL")
database.execute("CREATE TABLE IF NOT EXISTS images (media_id TEXT PRIMARY KEY, submitted REAL)")


def jsapi_ticket():
    if time.time() > ticket["until"]:
        with urllib.request.urlopen(f"{API}/cgi-bin/ticket/getticket?type=jsapi") as answer:
            ticket["value"] = json.load(answer)["ticket"]
        ticket["until"] = time.time() + 7000
    return ticket["value"]


def sign(url):
    values = {
        "jsapi_ticket": jsapi_ticket(),
        "noncestr": "".join(random.choices(string.ascii_letters + string.digits, k=16)),
        "timestamp": int(time.time()),
        "url": url,
    }
    text = "&".join(f"{key}={values[key]}" for key in sorted(values))
    signature = hashlib.sha1(text.encode()).hexdigest()
    return {
        "appId": APP_ID,
        "timestamp": values["timestamp"],
        "nonceStr": values["noncestr"],
        "signature": signature,
        "url": url,
    }


@app.route("/uploadImgDemo", methods=["GET", "POST"])
def page():
    config = sign(PUBLIC_URL + request.full_path.rstrip("?"))
    return render_template("page.html", config=json.dumps(config))


@app.route("/uploadImgData", methods=["GET", "POST"])
def submit():
    ids = json.loads(request.form.get("data", "{}")).get("imgIds") or []
    if not ids:
        return jsonify(rc=1, msg="图片不能为空")
    database.execute("BEGIN IMMEDIATE")
    database.executemany(
        "INSERT OR IGNORE INTO images VALUES (?, ?)", [(media_id, time.time()) for media_id in ids]
    )
    database.execute("COMMIT")
    return jsonify(rc=0, msg="上传成功")
