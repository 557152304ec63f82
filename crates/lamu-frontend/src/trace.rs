//! The X-Ray trace header of an invocation: the caller's, or a new one.
//!
//! Not here: sampling by rule. Nobody collects segments, so a call that its
//! caller did not sample stays unsampled.

use std::fmt::Write as _;

use uuid::Uuid;

/// Longer than any header with lineage; a longer one is a stranger's text.
const LENGTH_MAX: usize = 1_024;

/// Functions that a lineage remembers. A circle is seldom longer, and the
/// header stays below its own bound.
const LINEAGE_MAX: usize = 32;

/// What the function sees and what the caller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// `Root=…;Parent=…;Sampled=…`
    pub header: String,
    /// `root=…;sampled=…`
    pub answer: String,
}

impl Trace {
    /// Adopts the caller's trace if it names one. `seed` is random, `now_secs`
    /// seconds since the epoch.
    pub fn of(given: Option<&str>, seed: Uuid, now_secs: u64) -> Trace {
        if let Some(given) = given.filter(|given| given.len() <= LENGTH_MAX)
            && let Some(root) = part(given, "Root")
        {
            let sampled = part(given, "Sampled").filter(|sampled| *sampled == "1").unwrap_or("0");
            let answer = format!("root={root};sampled={sampled}");
            return Trace { header: given.to_owned(), answer };
        }
        let bits = seed.as_u128();
        let (high, low) = ((bits >> 32) & ((1 << 96) - 1), bits as u64);
        let now = now_secs as u32;
        let mut header = String::with_capacity(96);
        let mut answer = String::with_capacity(52);
        // Writing into a string cannot fail.
        let _ = write!(
            header,
            "Root=1-{now:08x}-{high:024x};Parent={:016x};Sampled=0",
            low.rotate_left(29)
        );
        let _ = write!(answer, "root=1-{now:08x}-{high:024x};sampled=0");
        Trace { header, answer }
    }

    /// `Root=…`, of a trace that began here.
    pub fn root(&self) -> &str {
        self.header.split(';').next().unwrap_or_default()
    }
}

impl Trace {
    /// Notes in the lineage that the call passes through the function with
    /// this mark; how often it has done so before ("Recursive loop detection"
    /// of the invocation reference).
    pub fn pass(&mut self, mark: u32) -> u32 {
        let mut before = 0;
        let mut others = Vec::new();
        for entry in part(&self.header, "Lineage").into_iter().flat_map(|all| all.split('|')) {
            let read = entry.split_once(':').and_then(|(mark, count)| {
                Some((u32::from_str_radix(mark, 16).ok()?, count.parse::<u32>().ok()?))
            });
            match read {
                Some((known, count)) if known == mark => before = count,
                Some(other) => others.push(other),
                // No lineage of ours.
                None => {}
            }
        }
        if self.header.contains("Lineage=") {
            let kept = self.header.split(';').filter(|part| !part.trim().starts_with("Lineage="));
            self.header = kept.collect::<Vec<_>>().join(";");
        }
        // Writing into a string cannot fail.
        let _ = write!(self.header, ";Lineage={mark:08x}:{}", before.saturating_add(1));
        let skipped = others.len().saturating_sub(LINEAGE_MAX - 1);
        for (mark, count) in others.into_iter().skip(skipped) {
            let _ = write!(self.header, "|{mark:08x}:{count}");
        }
        before
    }
}

/// A function in a lineage: short, and not the same for two by accident often
/// enough to matter (FNV-1a).
pub fn mark(name: &[&str]) -> u32 {
    let bytes = name.iter().flat_map(|part| part.bytes().chain([b'/']));
    bytes.fold(0x811c_9dc5, |mark, byte| (mark ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn part<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    header
        .split(';')
        .filter_map(|part| part.trim().split_once('='))
        .find(|(key, value)| *key == name && !value.is_empty())
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_trace_is_adopted() {
        let given = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        let trace = Trace::of(Some(given), Uuid::from_u128(1), 0);
        assert_eq!(trace.header, given);
        assert_eq!(trace.answer, "root=1-5759e988-bd862e3fe1be46a994272793;sampled=1");
    }

    #[test]
    fn a_lineage_counts_each_functions_passages_by_itself() {
        let (f, g) = (mark(&["a", "f"]), mark(&["a", "g"]));
        assert_ne!(f, g);
        let mut trace = Trace::of(None, Uuid::from_u128(1), 0);
        let begin = trace.header.clone();
        assert_eq!(trace.pass(f), 0);
        assert_eq!(trace.header, format!("{begin};Lineage={f:08x}:1"));
        for passed in 0..3 {
            assert_eq!(trace.pass(g), passed);
            assert_eq!(trace.pass(f), passed + 1);
        }
        assert_eq!(trace.header, format!("{begin};Lineage={f:08x}:4|{g:08x}:3"));
    }

    #[test]
    fn a_lineage_does_not_grow_without_end() {
        let mut trace = Trace::of(None, Uuid::from_u128(1), 0);
        for mark in 0..1_000 {
            trace.pass(mark);
        }
        assert!(trace.header.len() < LENGTH_MAX, "{}", trace.header.len());
        let strange = "Root=1-5759e988-bd862e3fe1be46a994272793;Lineage=x|1:2:3|:|zz:1";
        let mut trace = Trace::of(Some(strange), Uuid::from_u128(1), 0);
        assert_eq!(trace.pass(7), 0);
        assert!(trace.header.ends_with("272793;Lineage=00000007:1"), "{}", trace.header);
    }

    #[test]
    fn without_one_a_trace_begins() {
        let seed = Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef);
        for given in [None, Some("Parent=1"), Some("")] {
            let trace = Trace::of(given, seed, 0x6000_0000);
            assert_eq!(
                trace.answer, "root=1-60000000-0123456789ab4def81234567;sampled=0",
                "{given:?}"
            );
            assert!(trace.header.starts_with("Root=1-60000000-0123456789ab4def81234567;Parent="));
            assert_eq!(
                trace.header.len(),
                "Root=1-8-24".len() - 3 + 8 + 24 + ";Parent=".len() + 16 + ";Sampled=0".len()
            );
        }
    }
}
