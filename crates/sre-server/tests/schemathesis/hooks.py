import schemathesis
from hypothesis import strategies as st

# Lines of any bytes: the service reports those that it cannot read.
schemathesis.openapi.media_type("application/x-ndjson", st.binary() | st.text().map(str.encode))


def varint(number):
    head = number & 0x7F
    return bytes([head | 0x80]) + varint(number >> 7) if number > 0x7F else bytes([head])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def messages(number, parts):
    return st.lists(parts, max_size=3).map(lambda found: field(number, b"".join(found)))


# An export request in protobuf, which a JSON schema cannot describe. The three kinds have the same fields down to the records,
# and a record of each kind has a text in field 3.
UNKNOWN = st.binary(max_size=20).map(lambda content: field(1_000, content))
RECORDS = messages(2, UNKNOWN | st.text(max_size=20).map(lambda text: field(3, text.encode())))
RESOURCES = messages(1, UNKNOWN | messages(2, UNKNOWN | RECORDS))
REQUESTS = st.lists(UNKNOWN | RESOURCES, max_size=3).map(b"".join)
schemathesis.openapi.media_type("application/x-protobuf", REQUESTS)
