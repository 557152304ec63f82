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
    what_the_host_cannot_give_fails_with_its_reason,
    logs_go_to_the_group_and_levels_asked_for,
    the_account_shows_what_is_used,
);
