"""A client of Dify's API that reads the streams of `DIFY_URL` to their ends."""
import os, urllib.request
import sre_taps.dify

for workflow in range(int(os.environ["WORKFLOWS"])):
    try:
        with urllib.request.urlopen(f"{os.environ['DIFY_URL']}/{workflow}", b"{}") as response:
            finished = [line for line in sre_taps.dify.tap(response, agent="support") if b"workflow_finished" in line]
        print("finished" if finished else "broke off")
    except Exception as error:
        print("failed:", error)
