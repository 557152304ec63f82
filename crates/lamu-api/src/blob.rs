//! Bytes that travel as base64 in JSON, and what stands for secrets in a log.
//!
//! Not here: payloads, which are a body of their own (`Bytes`).

use std::fmt;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Some clients leave the padding out.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Cheap to clone. Its debug form shows a length only: code is private.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Blob(pub Bytes);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

/// Stands for a sensitive member in the debug form of its structure.
pub(crate) struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Blob, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64 text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Blob, E> {
                let bytes = LENIENT.decode(text).map_err(|_| E::custom("not base64"))?;
                Ok(Blob(Bytes::from(bytes)))
            }
        }

        d.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_travel_as_base64() {
        let blob = Blob(Bytes::from_static(b"zip!!"));
        assert_eq!(serde_json::to_string(&blob).unwrap(), "\"emlwISE=\"");
        for form in ["\"emlwISE=\"", "\"emlwISE\""] {
            assert_eq!(serde_json::from_str::<Blob>(form).unwrap(), blob, "{form}");
        }
        assert!(serde_json::from_str::<Blob>("\"!\"").is_err());
        assert_eq!(format!("{blob:?}"), "Blob(5 bytes)");
    }
}
