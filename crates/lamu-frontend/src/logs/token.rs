//! Paging tokens. That of events is the place of one, so a page goes on where
//! the last one ended whatever was written meanwhile; that of names is a name.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lamu_link::{LogEnd, LogPlace};

use super::LogsError;

/// Where reading goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Towards the newest, or back towards the oldest.
    pub end: LogEnd,
    /// `None` begins at that end.
    pub place: Option<LogPlace>,
}

impl Turn {
    pub fn token(&self) -> String {
        let way = match self.end {
            LogEnd::Oldest => 'f',
            LogEnd::Newest => 'b',
        };
        let place = self.place.map(|(time_ms, id)| name(&format!("{time_ms}:{id}")));
        format!("{way}/{}", place.unwrap_or_default())
    }

    pub fn read(token: &str) -> Result<Turn, LogsError> {
        let (way, place) = token.split_once('/').ok_or_else(bad)?;
        let end = match way {
            "f" => LogEnd::Oldest,
            "b" => LogEnd::Newest,
            _ => return Err(bad()),
        };
        let place = match place {
            "" => None,
            place => {
                let text = read_name(place)?;
                let (time_ms, id) = text.split_once(':').ok_or_else(bad)?;
                Some((time_ms.parse().map_err(|_| bad())?, id.parse().map_err(|_| bad())?))
            }
        };
        Ok(Turn { end, place })
    }
}

pub fn name(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(name)
}

pub fn read_name(token: &str) -> Result<String, LogsError> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?;
    String::from_utf8(bytes).map_err(|_| bad())
}

fn bad() -> LogsError {
    LogsError::invalid("The specified nextToken is invalid.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_reads_back_and_nothing_else_is_one() {
        for turn in [
            Turn { end: LogEnd::Oldest, place: None },
            Turn { end: LogEnd::Newest, place: Some((5, u64::MAX)) },
        ] {
            assert_eq!(Turn::read(&turn.token()).unwrap(), turn);
        }
        for bad in ["", "f", "x/", "f/?", "f/YQ", "b/MTp4", "/"] {
            assert!(Turn::read(bad).is_err(), "{bad}");
        }
    }
}
