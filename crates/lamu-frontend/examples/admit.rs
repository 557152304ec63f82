//! What letting one invocation in and giving its permit back costs.
//!
//! `cargo run -p lamu-frontend --example admit`

use std::time::Instant;

use lamu_frontend::{Admission, Claims, Limits, Provisioned, RateRule};
use lamu_model::{AccountId, FunctionName, Region, Version};

/// The quickest of so many runs: the others tell what else the machine did.
const RUNS: usize = 20;
const ROUNDS: u32 = 100_000;

fn main() {
    let place = |versions: &[u64]| Provisioned {
        qualifier: "prod".into(),
        count: 5,
        versions: versions.to_vec(),
    };
    let cases = [
        ("no claim, from the pool", Claims::default()),
        ("reserved", Claims { reserved: Some(10), provisioned: Vec::new() }),
        ("provisioned", Claims { reserved: None, provisioned: vec![place(&[1])] }),
        (
            "provisioned for another version",
            Claims { reserved: None, provisioned: vec![place(&[2])] },
        ),
    ];
    for (what, claims) in cases {
        for rate in [RateRule::Unlimited, RateRule::TenPerConcurrency] {
            let limits = Limits { concurrency: u32::MAX / 16, rate };
            println!("{:>6.1} ns  {what}, {rate:?}", measure(limits, &claims));
        }
    }
}

fn measure(limits: Limits, claims: &Claims) -> f64 {
    let now = Instant::now();
    let admission = Admission::new(limits, now);
    let (account, region) = (AccountId::new("000000000000"), Region::new("us-east-1"));
    let function = FunctionName::new("f");
    admission.claim(&account, &region, &function, claims);
    let mut best = f64::MAX;
    for _ in 0..RUNS {
        let begun = Instant::now();
        for _ in 0..ROUNDS {
            // Refused by a rate is as much work.
            drop(admission.admit(&account, &region, &function, Version::Number(1), now));
        }
        best = best.min(begun.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
    }
    best
}
