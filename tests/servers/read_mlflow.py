"""Prints what MLflow's own client reads of an experiment: URL and name of the experiment are the arguments."""

import json
import sys

import mlflow
from mlflow import MlflowClient

url, name = sys.argv[1:]
mlflow.set_tracking_uri(url)
client = MlflowClient(url)
experiment = client.get_experiment_by_name(name)


def text(value):
    return getattr(value, "value", value)


def span(span):
    return {
        "id": span.span_id,
        "parent": span.parent_id,
        "name": span.name,
        "type": span.span_type,
        "start": span.start_time_ns,
        "end": span.end_time_ns,
        "status": text(span.status.status_code),
        "message": span.status.description or None,
        "attributes": {key: value for key, value in span.attributes.items()},
        "inputs": span.inputs,
        "outputs": span.outputs,
        "exceptions": [event.attributes.get("exception.message") for event in span.events],
    }


def assessment(assessment):
    return {
        "id": assessment.assessment_id,
        "name": assessment.name,
        "value": assessment.feedback.value,
        "source": assessment.source.source_type,
        "span": assessment.span_id,
        "metadata": assessment.metadata,
        "time_ms": assessment.create_time_ms,
    }


def trace(trace):
    info = trace.info
    return {
        "state": text(info.state),
        "name": info.tags.get("mlflow.traceName"),
        "request_time_ms": info.request_time,
        "duration_ms": info.execution_duration,
        "request": info.request_preview,
        "response": info.response_preview,
        "tokens": info.token_usage,
        "cost": json.loads(info.trace_metadata.get("mlflow.trace.cost", "null")),
        "tags": info.tags,
        "spans": [span(one) for one in trace.data.spans],
        "assessments": [assessment(one) for one in info.assessments],
    }


def run(run):
    id = run.info.run_id
    artifacts = [file.path for file in client.list_artifacts(id)]
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "begun_ms": run.info.start_time,
        "params": run.data.params,
        "tags": run.data.tags,
        "metrics": {
            key: [[point.value, point.timestamp, point.step] for point in client.get_metric_history(id, key)]
            for key in run.data.metrics
        },
        "artifacts": {path: json.loads(mlflow.artifacts.load_text(f"runs:/{id}/{path}")) for path in artifacts},
    }


traces = client.search_traces(locations=[experiment.experiment_id], max_results=500)
runs = client.search_runs([experiment.experiment_id])
print(
    json.dumps(
        {
            "traces": {one.info.trace_id: trace(one) for one in traces},
            "runs": [run(one) for one in runs],
        }
    )
)
