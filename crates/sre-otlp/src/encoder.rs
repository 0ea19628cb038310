use crate::Attributes;

/// Encodes protobuf messages field by field, into one buffer.
///
/// The types of `opentelemetry-proto` own every text, list and message inside a message, each an allocation. An encoder
/// writes what an event has borrowed, so that the number of allocations does not depend on that of records.
///
/// Source: <https://protobuf.dev/programming-guides/encoding/>. Field numbers are below 16, as all of those in OTLP that are
/// used here.
///
/// ```
/// use sre_otlp::Encoder;
/// let mut message = Encoder::default();
/// message.text(1, &["agent", "-sre"]);
/// message.message(2, |inner| inner.uint(1, 300));
/// assert_eq!(message.as_bytes(), b"\x0a\x09agent-sre\x12\x03\x08\xac\x02");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Encoder(Vec<u8>);

/// How a value is encoded: the last three bits of the byte before it.
#[derive(Clone, Copy)]
#[repr(u8)]
enum WireType {
    Varint = 0,
    Fixed64 = 1,
    /// Bytes, preceded by their number.
    Bytes = 2,
}

/// Maximum number of bytes of a varint.
const MAX_VARINT: usize = 10;

impl Encoder {
    /// Creates an encoder with room for that many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Returns what was encoded.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Adds a text, which is the concatenation of the parts.
    pub fn text(&mut self, field: u8, parts: &[&str]) {
        self.0.reserve(text_len(parts) + MAX_VARINT);
        self.begin(field, parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| self.0.extend_from_slice(part.as_bytes()));
    }

    /// Adds bytes.
    pub fn bytes(&mut self, field: u8, bytes: &[u8]) {
        self.begin(field, bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// Adds a whole number, a boolean or the value of an enum.
    pub fn uint(&mut self, field: u8, value: u64) {
        self.tag(field, WireType::Varint);
        self.varint(value);
    }

    /// Adds a whole number of the type `sint32`.
    pub fn sint(&mut self, field: u8, value: i32) {
        let zigzag = (value << 1) ^ (value >> 31);
        self.uint(field, u64::from(zigzag.cast_unsigned()));
    }

    /// Adds a whole number of the type `fixed64`.
    pub fn fixed(&mut self, field: u8, value: u64) {
        self.tag(field, WireType::Fixed64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Adds a number.
    pub fn double(&mut self, field: u8, value: f64) {
        self.fixed(field, value.to_bits());
    }

    /// Adds a list of whole numbers.
    pub fn uints(&mut self, field: u8, values: &[u64]) {
        self.message(field, |list| values.iter().for_each(|value| list.varint(*value)));
    }

    /// Adds a message, of which `write` writes the fields.
    pub fn message(&mut self, field: u8, write: impl FnOnce(&mut Self)) {
        self.tag(field, WireType::Bytes);
        let start = self.0.len();
        self.0.push(0);
        write(self);
        self.set_len(start);
    }

    /// Adds a text, of which `write` appends the bytes.
    pub(crate) fn text_with(&mut self, field: u8, write: impl FnOnce(&mut Vec<u8>)) {
        self.message(field, |text| write(&mut text.0));
    }

    /// Returns a writer of attributes in the field of that number.
    pub fn attributes(&mut self, field: u8) -> Attributes<'_> {
        Attributes::new(self, field)
    }

    /// Adds an attribute with a text, whose lengths are all known before.
    pub(crate) fn text_attribute(&mut self, field: u8, key: [&str; 2], parts: &[&str]) {
        let (key_len, value_len) = (text_len(&key), text_len(parts));
        let entry_len = key_len + bytes_len(value_len);
        self.0.reserve(entry_len + MAX_VARINT);
        self.begin(field, entry_len);
        self.text(1, &key);
        self.begin(2, value_len);
        self.text(1, parts);
    }

    /// Replaces the byte at `start` by the length of what follows it.
    fn set_len(&mut self, start: usize) {
        let body = start + 1..self.0.len();
        if let Ok(short @ 0..0x80) = u8::try_from(body.len()) {
            self.0[start] = short;
            return;
        }
        let mut prefix = Self::default();
        prefix.varint(body.len() as u64);
        self.0.resize(self.0.len() + prefix.0.len() - 1, 0);
        self.0.copy_within(body, start + prefix.0.len());
        self.0[start..start + prefix.0.len()].copy_from_slice(&prefix.0);
    }

    /// Adds the fields of another message.
    pub(crate) fn append(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// Begins a field of that many bytes, which the caller adds.
    pub(crate) fn begin(&mut self, field: u8, len: usize) {
        self.tag(field, WireType::Bytes);
        self.varint(len as u64);
    }

    fn tag(&mut self, field: u8, wire_type: WireType) {
        debug_assert!((1..16).contains(&field), "a number of one byte");
        self.0.push(field << 3 | wire_type as u8);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// Returns the length of a text with its tag.
fn text_len(parts: &[&str]) -> usize {
    bytes_len(parts.iter().map(|part| part.len()).sum())
}

/// Returns the length of that many bytes with their tag.
fn bytes_len(len: usize) -> usize {
    let bits = usize::BITS - (len | 1).leading_zeros();
    1 + bits.div_ceil(7) as usize + len
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
    use opentelemetry_proto::tonic::metrics::v1::ExponentialHistogramDataPoint;
    use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
    use prost::Message;

    use super::*;

    /// Lengths on both sides of where their own length changes.
    const LENGTHS: [usize; 8] = [0, 1, 120, 127, 128, 300, 16_383, 16_384];

    #[test]
    fn texts_of_any_length_are_read_by_prost() {
        for length in LENGTHS {
            let text = "ä".repeat(length);
            let mut encoder = Encoder::default();
            encoder.text_attribute(1, ["key.", &text], &[&text]);
            let expected = KeyValue {
                key: format!("key.{text}"),
                value: Some(AnyValue { value: Some(any_value::Value::StringValue(text)) }),
                ..KeyValue::default()
            };
            let (start, body) = encoder.as_bytes().split_at(encoder.0.len() - expected.encoded_len());
            assert_eq!(start[0], 0x0a);
            assert_eq!(KeyValue::decode(body).unwrap(), expected, "{length}");
        }
    }

    #[test]
    fn messages_of_any_length_are_those_of_prost() {
        for length in LENGTHS {
            let text = "x".repeat(length);
            let mut encoder = Encoder::default();
            encoder.message(5, |array| {
                array.message(1, |value| value.text(1, &[&text]));
                array.message(1, |value| value.uint(3, 1 << 60));
            });
            let value = |value| AnyValue { value: Some(value) };
            let values = vec![value(any_value::Value::StringValue(text)), value(any_value::Value::IntValue(1 << 60))];
            let expected = value(any_value::Value::ArrayValue(ArrayValue { values }));
            assert_eq!(encoder.as_bytes(), expected.encode_to_vec(), "{length}");
        }
    }

    #[test]
    fn numbers_are_those_of_prost() {
        for scale in [-11, -1, 1, 20, i32::MIN, i32::MAX] {
            let expected = ExponentialHistogramDataPoint {
                count: u64::MAX,
                sum: Some(-0.5),
                scale,
                positive: Some(Buckets { offset: scale, bucket_counts: vec![0, 1, 127, 128, u64::MAX] }),
                ..ExponentialHistogramDataPoint::default()
            };
            let mut encoder = Encoder::default();
            encoder.fixed(4, expected.count);
            encoder.double(5, -0.5);
            encoder.sint(6, scale);
            encoder.message(8, |buckets| {
                buckets.sint(1, scale);
                buckets.uints(2, &[0, 1, 127, 128, u64::MAX]);
            });
            assert_eq!(encoder.as_bytes(), expected.encode_to_vec());
        }
    }
}
