//! Aliases: what they may point at, and which version one call gets.

use std::collections::BTreeMap;

use lamu_model::Version;

use super::document::{AliasDoc, Routing};
use super::refusal::Refusal;

/// The version of one call. `draw` is uniform in `0.0..1.0`.
pub fn choose(alias: &AliasDoc, draw: f64) -> Version {
    match alias.routing {
        Some(routing) if draw < routing.weight => Version::Number(routing.version),
        _ => alias.version,
    }
}

/// The routing that a request asks for beside the alias's own version.
///
/// An empty map means none.
pub fn routing(
    version: Version,
    weights: Option<&BTreeMap<String, f64>>,
) -> Result<Option<Routing>, Refusal> {
    let Some(weights) = weights else { return Ok(None) };
    if weights.len() > 1 {
        return Err(Refusal::invalid(
            "Number of items in AdditionalVersionWeights cannot be greater than 1",
        ));
    }
    let Some((additional, &weight)) = weights.iter().next() else { return Ok(None) };
    let not_latest = || {
        Refusal::invalid("$LATEST is not supported for an alias pointing to more than 1 version")
    };
    let Version::Number(own) = version else { return Err(not_latest()) };
    let additional = match Version::parse(additional) {
        Some(Version::Number(number)) => number,
        Some(Version::Latest) | None => return Err(not_latest()),
    };
    if additional == own {
        return Err(Refusal::invalid(format!(
            "Invalid function version {own}. Function version {own} is already included in routing configuration."
        )));
    }
    if !(0.0..=1.0).contains(&weight) {
        return Err(Refusal::invalid(format!(
            "Value {weight} in AdditionalVersionWeights must be between 0.0 and 1.0"
        )));
    }
    Ok(Some(Routing { version: additional, weight }))
}

impl AliasDoc {
    /// Whether a call through the alias may run this version.
    pub fn points_at(&self, number: u64) -> bool {
        self.version == Version::Number(number)
            || self.routing.is_some_and(|routing| routing.version == number)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn alias(routing: Option<Routing>) -> AliasDoc {
        AliasDoc {
            name: "prod".into(),
            version: Version::Number(1),
            description: String::new(),
            revision_id: Uuid::from_u128(1),
            routing,
            policy: None,
        }
    }

    #[test]
    fn a_draw_below_the_weight_goes_to_the_additional_version() {
        let split = alias(Some(Routing { version: 2, weight: 0.2 }));
        assert_eq!(choose(&split, 0.0), Version::Number(2));
        assert_eq!(choose(&split, 0.199), Version::Number(2));
        assert_eq!(choose(&split, 0.2), Version::Number(1));
        assert_eq!(choose(&alias(None), 0.0), Version::Number(1));
    }

    #[test]
    fn the_ends_of_the_scale_send_all_or_nothing() {
        let all = alias(Some(Routing { version: 2, weight: 1.0 }));
        assert_eq!(choose(&all, 0.999_999), Version::Number(2));
        let none = alias(Some(Routing { version: 2, weight: 0.0 }));
        assert_eq!(choose(&none, 0.0), Version::Number(1));
    }

    #[test]
    fn routing_takes_one_other_published_version() {
        let ask = |version, weights: &[(&str, f64)]| {
            let weights = weights.iter().map(|(v, w)| ((*v).to_owned(), *w)).collect();
            routing(version, Some(&weights))
        };
        let one = Version::Number(1);
        assert_eq!(ask(one, &[("2", 0.5)]).unwrap(), Some(Routing { version: 2, weight: 0.5 }));
        assert_eq!(ask(one, &[]).unwrap(), None);
        for (version, weights, text) in [
            (one, &[("1", 0.5)][..], "already included"),
            (one, &[("2", 0.5), ("3", 0.5)], "greater than 1"),
            (one, &[("$LATEST", 0.5)], "$LATEST is not supported"),
            (Version::Latest, &[("2", 0.5)], "$LATEST is not supported"),
            (one, &[("2", 1.5)], "between 0.0 and 1.0"),
        ] {
            match ask(version, weights) {
                Err(Refusal::Invalid(message)) => assert!(message.contains(text), "{message}"),
                other => panic!("{weights:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_alias_points_at_both_of_its_versions() {
        let split = alias(Some(Routing { version: 2, weight: 0.0 }));
        assert!(split.points_at(1) && split.points_at(2) && !split.points_at(3));
    }
}
