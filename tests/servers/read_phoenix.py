"""Prints what Phoenix's own client reads of a project: URL and name of the project are the arguments."""

import json
import sys

import httpx
from phoenix.client import Client

url, project = sys.argv[1:]
client = Client(base_url=url)
spans = client.spans.get_spans(project_identifier=project, limit=10_000)
ids = [span["context"]["span_id"] for span in spans]
traces = sorted({span["context"]["trace_id"] for span in spans})


def chunks(items, size=50):
    return [items[at : at + size] for at in range(0, len(items), size)]


annotations = [
    annotation
    for part in chunks(ids)
    for annotation in client.spans.get_span_annotations(span_ids=part, project_identifier=project, limit=10_000)
]
# The client has no method for these.
of_traces = []
for part in chunks(traces):
    address = f"{url}/v1/projects/{project}/trace_annotations"
    response = httpx.get(address, params={"trace_ids": part, "limit": 10_000})
    response.raise_for_status()
    of_traces.extend(response.json()["data"])
print(json.dumps({"spans": spans, "span_annotations": annotations, "trace_annotations": of_traces}))
