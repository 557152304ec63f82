//! What is settled beside a function, and settings of a function that this
//! host can or cannot give, as boto3 sees them. The scenarios are in
//! `py/configs.py`.

mod support;

scenarios!("configs":
    event_invoke_configs_come_and_go,
    event_invoke_configs_refuse_in_lambdas_words,
    runtimes_are_managed_by_version,
    recursion_is_allowed_or_not,
    a_runtime_version_has_one_arn,
);
