"""The recipe's downloader: one picture after the other, as the tutorials have it.

    download.py API_URL FILE_WITH_IDS FOLDER
"""

import os
import sys

import requests

api, ids_file, folder = sys.argv[1:]
for media_id in open(ids_file).read().split():
    answer = requests.get(f"{api}/cgi-bin/media/get", params={"access_token": "t", "media_id": media_id})
    with open(os.path.join(folder, media_id + ".jpg"), "wb") as file:
        file.write(answer.content)
