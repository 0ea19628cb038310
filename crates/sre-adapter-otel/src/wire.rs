//! Reads protobuf messages field by field, without copying and without building messages.
//!
//! <https://protobuf.dev/programming-guides/encoding/>

/// The fields of a message, in the order of the input.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(&'a [u8]);

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    /// A string, bytes or a message.
    Bytes(&'a [u8]),
}

/// What is wrong with a message.
pub(crate) type Malformed = &'static str;

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        if let [byte @ 0..0x80, rest @ ..] = self.0 {
            self.0 = rest;
            return Ok(u64::from(*byte));
        }
        let mut number = 0;
        for (index, &byte) in self.0.iter().take(10).enumerate() {
            // Of the tenth byte, only one bit is left.
            if index == 9 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.0 = &self.0[index + 1..];
                return Ok(number);
            }
        }
        Err("invalid varint")
    }

    #[inline]
    fn bytes(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = usize::try_from(length)
            .ok()
            .and_then(|length| self.0.split_at_checked(length))
            .ok_or("truncated message")?;
        self.0 = rest;
        Ok(bytes)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or("truncated message")?;
        self.0 = rest;
        Ok(*bytes)
    }

    #[inline]
    fn field(&mut self) -> Result<(u32, Value<'a>), Malformed> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0).ok_or("invalid field number")?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.bytes(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            // Groups, which OTLP does not use.
            _ => return Err("invalid wire type"),
        };
        Ok((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Value<'a> {
    #[inline]
    pub(crate) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err("invalid wire type, expected a length"),
        }
    }

    #[inline]
    pub(crate) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "invalid UTF-8")
    }

    /// Returns the fields of a message.
    #[inline]
    pub(crate) fn fields(self) -> Result<Fields<'a>, Malformed> {
        self.bytes().map(Fields)
    }

    #[inline]
    pub(crate) fn varint(self) -> Result<u64, Malformed> {
        match self {
            Self::Varint(number) => Ok(number),
            _ => Err("invalid wire type, expected a varint"),
        }
    }

    #[inline]
    pub(crate) fn fixed64(self) -> Result<u64, Malformed> {
        match self {
            Self::Fixed64(number) => Ok(number),
            _ => Err("invalid wire type, expected 64 bits"),
        }
    }

    #[inline]
    pub(crate) fn fixed32(self) -> Result<u32, Malformed> {
        match self {
            Self::Fixed32(number) => Ok(number),
            _ => Err("invalid wire type, expected 32 bits"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::encoding::{encode_varint, encoded_len_varint};

    use super::*;

    #[test]
    fn every_wire_type_is_read() {
        let message = [0x08, 0x96, 0x01, 0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0x1a, 2, b'h', b'i', 0x25, 2, 0, 0, 0];
        let fields: Vec<_> = Fields::of(&message).map(Result::unwrap).collect();
        let expected =
            [(1, Value::Varint(150)), (2, Value::Fixed64(1)), (3, Value::Bytes(b"hi")), (4, Value::Fixed32(2))];
        assert_eq!(fields, expected);
        for length in [1, 2, 4, 11, 13, 15, 17, 20] {
            assert!(Fields::of(&message[..length]).any(|field| field.is_err()), "cut after {length} bytes");
        }
        for invalid in
            [&[0x00, 0][..], &[0x0b], &[0x0f], &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]]
        {
            assert!(Fields::of(invalid).any(|field| field.is_err()), "{invalid:?}");
        }
    }

    proptest! {
        #[test]
        fn varints_are_those_of_prost(number in any::<u64>()) {
            let mut message = vec![0x08];
            encode_varint(number, &mut message);
            prop_assert_eq!(message.len(), 1 + encoded_len_varint(number));
            let fields: Vec<_> = Fields::of(&message).collect();
            prop_assert_eq!(fields, [Ok((1, Value::Varint(number)))]);
        }
    }
}
