import schemathesis

# Lines of any text: the service reports those that it cannot read.
schemathesis.serializer.alias("application/x-ndjson", "text/plain")
