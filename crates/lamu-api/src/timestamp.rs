//! A moment as the wire writes it. Which form belongs to which field:
//! Lambda API reference, "Wire protocol".
//!
//! Not here: a clock.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Milliseconds since the epoch.
///
/// In JSON a number of seconds with a fraction, as every member has it that
/// the model calls a timestamp. Members that are strings in the model take one
/// of the text forms below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    pub millis: i64,
}

impl Timestamp {
    pub fn from_millis(millis: i64) -> Timestamp {
        Timestamp { millis }
    }

    /// `2026-11-03T09:15:27.123+0000`: LastModified of a function, a code
    /// signing configuration and a capacity provider; CreatedDate of a layer.
    pub fn offset_millis(self) -> String {
        self.utc().format("%Y-%m-%dT%H:%M:%S%.3f+0000").to_string()
    }

    /// `2026-11-03T09:15:27+0000`: LastModified of provisioned concurrency.
    pub fn offset_secs(self) -> String {
        self.utc().format("%Y-%m-%dT%H:%M:%S+0000").to_string()
    }

    /// `2026-11-03T09:15:27.123000Z`: the times of a function URL.
    pub fn zulu_micros(self) -> String {
        self.utc().to_rfc3339_opts(SecondsFormat::Micros, true)
    }

    /// Reads the ISO 8601 form of query strings, or seconds since the epoch.
    pub fn parse(text: &str) -> Option<Timestamp> {
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Some(Timestamp { millis: time.timestamp_millis() });
        }
        text.parse().ok().and_then(Timestamp::from_secs)
    }

    /// `None` for what no calendar holds.
    pub fn from_secs(seconds: f64) -> Option<Timestamp> {
        let millis = (seconds * 1000.0).round();
        let known = millis.is_finite() && millis.abs() < 9e15;
        let time = known.then_some(Timestamp { millis: millis as i64 })?;
        DateTime::from_timestamp_millis(time.millis).map(|_| time)
    }

    fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.millis).unwrap_or_default()
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if self.millis % 1000 == 0 {
            s.serialize_i64(self.millis / 1000)
        } else {
            s.serialize_f64(self.millis as f64 / 1000.0)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Timestamp, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Wire {
            Seconds(f64),
            Text(String),
        }
        let time = match Wire::deserialize(d)? {
            Wire::Seconds(seconds) => Timestamp::from_secs(seconds),
            Wire::Text(text) => Timestamp::parse(&text),
        };
        time.ok_or_else(|| de::Error::custom("not a timestamp"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Timestamp = Timestamp { millis: 1_793_697_327_123 };

    #[test]
    fn each_text_form_is_the_one_sdks_expect() {
        assert_eq!(TIME.offset_millis(), "2026-11-03T09:15:27.123+0000");
        assert_eq!(TIME.offset_secs(), "2026-11-03T09:15:27+0000");
        assert_eq!(TIME.zulu_micros(), "2026-11-03T09:15:27.123000Z");
    }

    #[test]
    fn json_has_seconds_with_a_fraction() {
        assert_eq!(serde_json::to_string(&TIME).unwrap(), "1793697327.123");
        assert_eq!(serde_json::to_string(&Timestamp::from_millis(2000)).unwrap(), "2");
        for form in ["1793697327.123", "\"2026-11-03T09:15:27.123Z\""] {
            assert_eq!(serde_json::from_str::<Timestamp>(form).unwrap(), TIME, "{form}");
        }
    }

    #[test]
    fn what_no_calendar_holds_is_refused() {
        assert_eq!(Timestamp::parse("1e300"), None);
        assert_eq!(Timestamp::parse("yesterday"), None);
        assert_eq!(Timestamp::parse("NaN"), None);
    }
}
