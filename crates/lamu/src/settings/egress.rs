//! The endpoints that functions may reach, as they were named.
//!
//! Not here: what an endpoint may be and how it appears inside
//! (`lamu_model::EgressPlan`).

use lamu_model::{EgressPlan, Endpoint};

use super::Sources;

pub fn read(sources: &mut Sources) -> EgressPlan {
    let (mut endpoints, mut origins) = (Vec::new(), Vec::new());
    for mut entry in sources.take_egress() {
        let url = entry.text(sources, "url");
        let service = entry.text(sources, "service");
        entry.finish(sources, "an endpoint has url and service");
        let origin = entry.origin;
        let Some(url) = url else {
            sources.refuse_at(&origin, "url is missing".to_owned());
            continue;
        };
        match Endpoint::parse(&url, service.as_deref()) {
            Ok(endpoint) => {
                endpoints.push(endpoint);
                origins.push(origin);
            }
            Err(error) => sources.refuse_at(&origin, error.to_string()),
        }
    }
    match EgressPlan::new(&endpoints) {
        Ok(plan) => plan,
        Err((at, error)) => {
            sources.refuse_at(&origins[at], error.to_string());
            EgressPlan::default()
        }
    }
}
